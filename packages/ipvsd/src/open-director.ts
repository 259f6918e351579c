/** The director that the commands work on: the one in the kernel, in the network namespace they run in. */
import { DirectorError, KernelDirector } from '@ipvsd/director';
import { mayUseBpf } from '@ipvsd/linux';

export function openDirector(): KernelDirector {
  if (!mayUseBpf()) {
    throw new DirectorError('EPERM', 'Cannot open the director: CAP_NET_ADMIN and CAP_BPF are missing, run as root');
  }
  const connections = process.env['IPVSD_CONNECTIONS'];
  return new KernelDirector(connections === undefined ? {} : { maxConnections: Number(connections) });
}
