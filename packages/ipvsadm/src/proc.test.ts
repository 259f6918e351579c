import { type ConnectionEntry, helpedPorts } from '@ipvsd/director';
import { expect, test } from 'vitest';
import { formatProcApplications } from './proc.ts';

const connection = (port: number, helper?: string): ConnectionEntry => ({
  protocol: 'tcp',
  client: { address: '192.0.2.1', port: 40_000 },
  virtual: { address: '10.0.0.1', port },
  real: { address: '10.1.0.1', port },
  state: 'ESTABLISHED',
  expiresSeconds: 900,
  synced: false,
  persistenceEngine: null,
  persistenceData: null,
  ...(helper === undefined ? {} : { helper }),
});

test('ip_vs_app lists ports that are helped, and how many connections are', () => {
  const ports = helpedPorts(
    new Map([
      ['ftp_ports', '21,2121'],
      ['tftp_ports', '69'],
      ['rtsp_ports', 'none'],
    ]),
  );
  const connections = [connection(21, 'ftp'), connection(21, 'ftp'), connection(2121, 'ftp'), connection(80)];
  expect(formatProcApplications(ports, connections)).toBe(
    [
      'prot port    usecnt name\n',
      'TCP  21      2      ftp              \n',
      'TCP  2121    1      ftp              \n',
      'UDP  69      0      tftp             \n',
    ].join(''),
  );
});
