export { type Agent, type AgentOptions, startAgent } from './agent/agent.ts';
export { type AgentAnswer, formatAgentLine, parseAgentLine } from './agent-check.ts';
export { Controller, type ControllerSettings, defaultSettings, type Reason, weightScale } from './controller.ts';
export {
  describeReason,
  Feedback,
  type FeedbackOptions,
  type FeedbackServer,
  type FeedbackService,
} from './feedback.ts';
export type { LoadReport, Source } from './report.ts';
export { isLoadSource, type SourceName, sourceFrom, sourceNames } from './sources/source.ts';
