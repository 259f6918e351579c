/** `ipvsd check FILE`: keepalived's verdict and exit status, and what keepalived does not look for. */
import {
  formatDiagnostic,
  isNativeFile,
  lineFinder,
  loadConfigurationFile,
  outline,
  type Verdict,
  verdictOf,
} from '@ipvsd/keepalived';

export interface CheckOptions {
  readonly configId?: string;
  readonly strict?: boolean;
  readonly json?: boolean;
  readonly outline?: boolean;
}

/** As keepalived -t ends: 3 it would not run, 4 it runs without what is wrong, 5 scripts are insecure. */
const STATUS: Readonly<Record<Verdict, number>> = { good: 0, refused: 3, errors: 4, security: 5 };
/** Ours, with --strict: nothing wrong, but findings. */
const FINDINGS_STATUS = 6;

export function check(file: string, options: CheckOptions, write: (text: string) => void): number {
  const { configuration, diagnostics, sources } = loadConfigurationFile(
    file,
    options.configId === undefined ? {} : { configId: options.configId },
  );
  const verdict = verdictOf(diagnostics);
  if (options.json) write(`${JSON.stringify({ verdict, diagnostics })}\n`);
  else {
    const lineOf = lineFinder(sources);
    for (const diagnostic of diagnostics) write(`${formatDiagnostic(diagnostic, lineOf)}\n`);
    if (options.outline) write(outline(configuration));
    write(
      `${file}: ${isNativeFile(file) ? describeOwn(verdict) : describe(verdict)}, ${configuration.virtualServers.length} virtual servers\n`,
    );
  }
  return verdict === 'good' && options.strict && diagnostics.length > 0 ? FINDINGS_STATUS : STATUS[verdict];
}

function describeOwn(verdict: Verdict): string {
  return verdict === 'good' || verdict === 'security' ? 'nothing is wrong' : 'ipvsd run refuses it';
}

function describe(verdict: Verdict): string {
  const words: Readonly<Record<Verdict, string>> = {
    good: 'keepalived takes it as it is',
    errors: 'keepalived takes it without what is wrong',
    security: 'keepalived takes it and warns of its scripts',
    refused: 'keepalived refuses it',
  };
  return words[verdict];
}
