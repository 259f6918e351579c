/**
 * Our own configuration, YAML or JSON: the same model as keepalived.conf, without its age. The schema is the one
 * description: it checks, it types, and it is published as JSON Schema for editors.
 */
import { parseAddress, segmentSizes } from '@ipvsd/director';
import { isLoadSource } from '@ipvsd/load';
import { z } from 'zod';

const address = z
  .string()
  .refine((text) => parseAddress(text) !== undefined, 'must be an IPv4 or IPv6 address')
  .describe('IPv4 or IPv6 address');
const port = z.int().min(1).max(65_535);
const seconds = z.number().min(0).max(2_147_483).describe('seconds, with a fraction or without');
const count = z.int().min(0);
const weight = z.int().min(0).max(2_147_483_647);

const command = z
  .strictObject({
    run: z.array(z.string()).min(1).describe('program and arguments; no shell is started'),
    user: z.string().optional(),
    group: z.string().optional(),
  })
  .describe('a program of yours');

const timing = {
  every: seconds.optional().describe('time between checks; 60 unless given'),
  timeout: seconds.optional().describe('time for each step of a check; 5 unless given'),
  retries: count.optional().describe('failures in a row that are forgiven'),
  retryAfter: seconds.optional(),
  warmup: seconds.optional().describe('the first check comes at random within this time'),
  startDown: z.boolean().optional().describe('count as failed until the first success (keepalived: alpha)'),
};

const connection = {
  address: address.optional().describe("the real server's own unless given"),
  port: port.optional(),
  bindAddress: address.optional(),
  bindPort: port.optional(),
};

const codes = z.union([z.int().min(100).max(599), z.string().regex(/^[1-5][0-9]{2}-[1-5][0-9]{2}$/)]);

const url = z.strictObject({
  path: z.string(),
  status: z.array(codes).optional().describe('200-299 unless given'),
  md5: z
    .string()
    .regex(/^[0-9a-f]{32}$/)
    .optional(),
  host: z.string().optional(),
  regex: z.string().optional(),
  regexMustNotMatch: z.boolean().optional(),
});

const httpLines = {
  ...timing,
  ...connection,
  urls: z.array(url).min(1),
  host: z.string().optional(),
  version: z.enum(['1.0', '1.0C', '1.1']).optional(),
  fastRecovery: z.boolean().optional(),
};

export const checkSchema = z.discriminatedUnion('type', [
  z.strictObject({ type: z.literal('tcp'), ...timing, ...connection }),
  z.strictObject({ type: z.literal('http'), ...httpLines }),
  z.strictObject({ type: z.literal('https'), ...httpLines, serverName: z.string().optional() }),
  z.strictObject({ type: z.literal('smtp'), ...timing, ...connection, hello: z.string().optional() }),
  z.strictObject({
    type: z.literal('dns'),
    ...timing,
    ...connection,
    record: z.string().optional(),
    name: z.string().optional(),
  }),
  z.strictObject({
    type: z.literal('udp'),
    ...timing,
    ...connection,
    payload: z
      .string()
      .regex(/^[0-9a-fA-F ]*$/)
      .optional()
      .describe('hexadecimal'),
    reply: z
      .string()
      .regex(/^[0-9a-fA-FxX ]*$/)
      .optional()
      .describe('hexadecimal, x for any digit; empty for any reply'),
  }),
  z.strictObject({ type: z.literal('ping'), ...timing, ...connection }),
  z.strictObject({
    type: z.literal('command'),
    ...timing,
    command,
    statusIsWeight: z.boolean().optional().describe('exit status 2 to 255 sets the weight to 0 to 253'),
  }),
  z.strictObject({ type: z.literal('file'), ...timing, path: z.string(), weight: z.int().optional() }),
]);

const forwarding = z.enum(['nat', 'dr', 'tunnel', 'fullnat']);
const tunnel = z.strictObject({
  type: z.enum(['ipip', 'gue', 'gre']),
  port: port.optional(),
  checksum: z.enum(['none', 'full', 'remote']).optional(),
});

const realServer = z.strictObject({
  address,
  port: port.optional(),
  weight: weight.optional(),
  forwarding: forwarding.optional(),
  tunnel: tunnel.optional(),
  upperThreshold: count.optional(),
  lowerThreshold: count.optional(),
  keepWhenDown: z.boolean().optional().describe('weight 0 instead of removal (keepalived: inhibit_on_failure)'),
  whenUp: command.optional(),
  whenDown: command.optional(),
  checks: z.array(checkSchema).optional(),
});

const percent = z.number().describe('per cent');

const load = z
  .strictObject({
    from: z
      .string()
      .refine(isLoadSource, 'must be agent, idle-agent, http, prometheus or snmp, with :PORT and for HTTP /PATH')
      .describe('whom to ask on each real server: agent:3333, http:8080/load, prometheus:9100, snmp'),
    every: z.number().min(1).max(10).optional().describe('seconds between two questions; 1 unless given'),
    stale: z.number().min(1).max(3600).optional().describe('an older report counts as none; 10 s unless given'),
    halfLife: z
      .number()
      .min(0.1)
      .max(600)
      .optional()
      .describe('a change of load has half its effect after so many seconds; 2 unless given'),
    change: percent.gt(0).max(1000).optional().describe('how much a weight changes in a second at most; 15'),
    least: percent.gt(0).max(100).optional().describe('of the configured weight, whatever the load; 10'),
    most: percent.min(100).max(10_000).optional().describe('of the configured weight; 300'),
  })
  .refine(({ every = 1, stale = 10 }) => stale > every, 'stale must be more than every')
  .describe("weights by the real servers' load; with the scheduler ll, loads instead of weights");

const slowStart = z
  .number()
  .min(0)
  .max(3600)
  .describe('seconds in which the weight of a real server that comes, or comes back, rises from a tenth to the whole');

const service = z.strictObject({
  address: z
    .union([address, z.array(z.string()).min(1)])
    .optional()
    .describe('or several, with ranges as 10.0.0.1-9 and 10.0.0.0/29'),
  port: port.optional(),
  fwmark: z.int().min(0).max(0xffffffff).optional(),
  protocol: z.enum(['tcp', 'udp', 'sctp']).optional().describe('tcp unless given'),
  scheduler: z.string().optional().describe('wlc unless given'),
  schedulerFlags: z.array(z.enum(['fallback', 'port', 'flag-3'])).optional(),
  forwarding: forwarding.optional().describe('nat unless given'),
  tunnel: tunnel.optional(),
  proxyProtocol: z
    .enum(['v1', 'v2', 'v2-each'])
    .optional()
    .describe('how real servers behind fullnat hear of their clients'),
  mss: z
    .union([z.int().min(segmentSizes.least).max(segmentSizes.most), z.literal('auto')])
    .optional()
    .describe('largest segment of TCP connections in bytes, or what fits on the way'),
  localAddresses: z.array(address).optional().describe('what real servers behind fullnat see as their clients'),
  persistence: z
    .strictObject({
      seconds: z.int().min(1),
      prefix: z.int().min(1).max(128).optional(),
      engine: z.string().optional(),
    })
    .optional(),
  onePacket: z.boolean().optional(),
  idle: z
    .strictObject({
      seconds: z.int().min(1).max(2_678_400).optional().describe('how long an established connection may be silent'),
      reset: z.boolean().optional().describe('both ends of a TCP connection that goes by silence are told with a RST'),
    })
    .optional(),
  quorum: z.int().min(1).optional(),
  hysteresis: count.optional(),
  whenQuorumGained: command.optional(),
  whenQuorumLost: command.optional(),
  notifyAtStop: z.boolean().optional().describe('keepalived: omega'),
  onlyWhereAddressIs: z
    .boolean()
    .optional()
    .describe('check only while the address is on this host (keepalived: ha_suspend)'),
  sorryServer: z.strictObject({ address, port: port.optional(), keep: z.boolean().optional() }).optional(),
  checks: z.array(checkSchema).optional().describe('for every real server that names none'),
  load: load.optional(),
  slowStart: slowStart.optional(),
  realServers: z.array(realServer).min(1),
});

export const configurationSchema = z
  .strictObject({
    timeouts: z.strictObject({ tcp: z.int().min(1), tcpFin: z.int().min(1), udp: z.int().min(1) }).optional(),
    commandUser: z.strictObject({ user: z.string(), group: z.string().optional() }).optional(),
    load: load.optional().describe('for every service that says nothing of it'),
    slowStart: slowStart.optional().describe('for every service that says nothing of it'),
    services: z.array(
      service
        .refine(
          ({ protocol, idle }) => !(idle?.reset && protocol !== undefined && protocol !== 'tcp'),
          'idle.reset is for TCP alone',
        )
        .refine(({ protocol, mss }) => mss === undefined || (protocol ?? 'tcp') === 'tcp', 'mss is for TCP alone'),
    ),
  })
  .describe('Virtual services of ipvsd');

export type NativeConfiguration = z.infer<typeof configurationSchema>;
export type NativeService = z.infer<typeof service>;
export type NativeServer = z.infer<typeof realServer>;
export type NativeCheck = z.infer<typeof checkSchema>;
export type NativeLoad = z.infer<typeof load>;
export type NativeCommand = z.infer<typeof command>;

/** For editors: `"$schema"` or `# yaml-language-server: $schema=...`. */
export function configurationJsonSchema(): Record<string, unknown> {
  return z.toJSONSchema(configurationSchema, { io: 'input', unrepresentable: 'any' });
}
