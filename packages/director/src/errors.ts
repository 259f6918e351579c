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

  constructor(code: ErrorCode, message: string) {
    super(message);
    this.name = 'DirectorError';
    this.code = code;
  }
}
