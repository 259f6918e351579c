/** The refusals of a director, named by the errno the kernel's ip_vs answers with: ipvsadm's texts hang on them. */
export type ErrorCode =
  | 'EPERM'
  | 'ENOENT'
  | 'ESRCH'
  | 'EAGAIN'
  | 'ENOMEM'
  | 'EEXIST'
  | 'EACCES'
  | 'ENODEV'
  | 'EINVAL'
  | 'ERANGE'
  | 'EMSGSIZE'
  | 'ENOPROTOOPT'
  | 'EOPNOTSUPP'
  | 'EAFNOSUPPORT';

export class DirectorError extends Error {
  readonly code: ErrorCode;
  /** It is about what only we have: ipvsadm has no words for it, and the message itself is said. */
  readonly ours: boolean;

  constructor(code: ErrorCode, message: string, ours = false) {
    super(message);
    this.name = 'DirectorError';
    this.code = code;
    this.ours = ours;
  }
}
