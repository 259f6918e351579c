/**
 * Every sentence ipvsadm says on stderr, and the exit status that goes with it. Scripts match these texts, so they are
 * the original's to the letter; a trailing blank or a doubled newline here is no slip of ours.
 */
import { type DirectorError, type ErrorCode, segmentSizes } from '@ipvsd/director';

/**
 * The end of a command line before the director was asked. In a restore a usage error ends everything; only an option
 * word that cannot be read (`continues`) costs its own line and no more.
 */
export class UsageError extends Error {
  readonly status: number;
  readonly continues: boolean;

  constructor(text: string, status = 2, continues = false) {
    super(text);
    this.name = 'UsageError';
    this.status = status;
    this.continues = continues;
  }
}

export const refusedStatus = 255;
export const listFailedStatus = 1;

export const usage = {
  tryHelp: (program: string) =>
    new UsageError(`Try \`${program} -h' or '${program} --help' for more information.`, refusedStatus),
  badOption: (word: string, reason: string) => new UsageError(`${word}: ${reason}`, refusedStatus, true),
  secondCommand: (word: string) => new UsageError(`invalid option \`${word}'`),
  unexpectedArgument: (word: string) => new UsageError(`unexpected argument ${word}`),
  multiple: (option: string) => new UsageError(`multiple '${option}' options specified`),
  missing: (option: string, where: string) =>
    new UsageError(`You need to supply the '${option}' option for the ${where}`),
  illegal: (option: string, where: string) => new UsageError(`Illegal '${option}' option with the ${where}`),
  conflict: (option: string, earlier: string, where: string) =>
    new UsageError(`The option '${option}' conflicts with the '${earlier}' option in the ${where}`),
  listConflict: () => new UsageError('options conflicts in the list command'),
  illegalValue: (what: string) => new UsageError(`illegal ${what} specified`),
  invalidTimeout: (text: string) => new UsageError(`invalid timeout value \`${text}' specified`),
  invalidFwmark: (text: string) => new UsageError(`invalid fwmark value \`${text}' specified`),
  invalidGroup: (family: string, text: string) => new UsageError(`invalid ${family} mcast-group \`${text}'`),
  invalidSchedulerFlag: (flag: string) => new UsageError(`invalid scheduler flag \`${flag}'`),
  incompatibleSchedulerFlag: (flag: string) => new UsageError(`incompatible scheduler flag \`${flag}'`),
  threeTimeouts: () => new UsageError('--set option requires 3 timeout values'),
  ipv6BeforeFwmark: () => new UsageError('-6 used before -f\n'),
  zeroPort: () => new UsageError('Zero port specified for non-persistent service'),
  resetOnlyTcp: () => new UsageError('--reset-at-expiry is only for TCP virtual services'),
  illegalSegmentSize: (value: string) => {
    const { least, most } = segmentSizes;
    return new UsageError(`Cannot limit segments: --mss is "${value}", must be ${least}..${most}, auto or off`);
  },
  segmentSizeOnlyTcp: () => new UsageError('--mss is only for TCP virtual services'),
  onePacketOnlyUdp: () => new UsageError('One-Packet Scheduling is only for UDP virtual services'),
  otherFamily: () => new UsageError('Different address family is allowed only for tunneling servers'),
  tunnelOptions: () => new UsageError('Tunnel options conflict with forward method'),
  cannotInitialize: (reason: string) =>
    new UsageError(
      `Can't initialize ipvs: ${reason}\nAre you sure that IP Virtual Server is built in the kernel or as module?`,
    ),
  notAtomic: (command: string) => new UsageError(`the '${command}' command cannot be part of an atomic restore`),
};

/** What ipvsadm was doing when the director refused: the same errno means different things. */
export type Operation =
  | 'service'
  | 'add-service'
  | 'server'
  | 'add-server'
  | 'local-address'
  | 'start-daemon'
  | 'stop-daemon'
  | 'other';

/** First the words for this operation, then those that hold for all. */
const refusals: Readonly<Record<Operation, Partial<Record<ErrorCode, string>>>> = {
  'add-service': {
    EEXIST: 'Service already exists',
    ENOENT: 'Scheduler or persistence engine not found',
    ESRCH: 'No such service',
  },
  service: { ESRCH: 'No such service', ENOENT: 'Scheduler or persistence engine not found' },
  'add-server': { ESRCH: 'Service not defined', EEXIST: 'Destination already exists' },
  server: { ESRCH: 'Service not defined', ENOENT: 'No such destination' },
  'local-address': {
    ESRCH: 'Service not defined',
    EEXIST: 'Local address already exists',
    ENOENT: 'No such local address',
  },
  'start-daemon': { EEXIST: 'Daemon has already run' },
  'stop-daemon': { ESRCH: 'No daemon is running' },
  other: {},
};

const anyRefusal: Readonly<Record<ErrorCode, string>> = {
  EPERM: 'Permission denied (you must be root)',
  EINVAL: 'Invalid operation.  Possibly wrong module version, address not unicast, ...',
  ENOPROTOOPT: 'Protocol not available',
  ENOMEM: 'Memory allocation problem',
  EOPNOTSUPP: 'Operation not supported with IPv6',
  EAFNOSUPPORT: 'Operation not supported with specified address family',
  EMSGSIZE: 'Module is wrong version',
  EACCES: 'Permission denied',
  EAGAIN: 'Resource temporarily unavailable',
  EEXIST: 'File exists',
  ENODEV: 'No such device',
  ENOENT: 'No such file or directory',
  ERANGE: 'Numerical result out of range',
  ESRCH: 'No such process',
};

export function refusal(operation: Operation, error: DirectorError): string {
  if (error.ours) return error.message;
  return refusals[operation][error.code] ?? anyRefusal[error.code];
}
