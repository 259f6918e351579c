/** What each demo shows: addresses, what is typed on the director, and which client the real servers must see. */
import type { ServiceId } from '@ipvsd/director';

export type Method = 'nat' | 'dr' | 'tun' | 'fullnat';
export const METHODS: readonly Method[] = ['nat', 'dr', 'tun', 'fullnat'];

export interface Scene {
  readonly method: Method;
  readonly title: string;
  readonly vip: string;
  /** The first one makes the HTTP load; FTP sessions come from all. */
  readonly clients: readonly string[];
  readonly realServers: readonly { readonly address: string; readonly port: number }[];
  /** For ipvsadm on the director. */
  readonly commands: readonly (readonly string[])[];
  /** Typed on each real server before. */
  readonly setup?: readonly string[];
  readonly ftp: boolean;
  /** What the real servers must see as the source of HTTP requests. */
  readonly source: string;
}

const NAT_VIP = '172.16.45.10';
const LAN_VIP = '192.168.2.254';
const CLIENT = '172.16.45.2';
/** The director's address towards the real servers under FULLNAT. */
export const LOCAL_ADDRESS = '192.168.45.1';

const nat: Scene = {
  method: 'nat',
  title: 'NAT: everything passes the director, both ways',
  vip: NAT_VIP,
  clients: [CLIENT],
  realServers: [
    { address: '192.168.45.2', port: 8000 },
    { address: '192.168.45.3', port: 80 },
  ],
  commands: [
    ['-A', '-t', `${NAT_VIP}:80`, '-s', 'rr'],
    ['-a', '-t', `${NAT_VIP}:80`, '-r', '192.168.45.2:8000', '-m'],
    ['-a', '-t', `${NAT_VIP}:80`, '-r', '192.168.45.3', '-m'],
    ['-ln'],
  ],
  ftp: false,
  source: CLIENT,
};

/** The classic cluster: web and persistent FTP on one segment, least connections by weight. */
const dr: Scene = {
  method: 'dr',
  title: 'DR: requests pass the director, replies go straight to the client',
  vip: LAN_VIP,
  clients: [CLIENT, '172.16.45.3', '172.16.45.4', '172.16.45.5'],
  realServers: [
    { address: '192.168.2.2', port: 80 },
    { address: '192.168.2.3', port: 80 },
  ],
  setup: ['--vip', LAN_VIP, '--method', 'dr'],
  commands: [
    ['-A', '-t', `${LAN_VIP}:80`, '-s', 'wlc'],
    ['-a', '-t', `${LAN_VIP}:80`, '-r', '192.168.2.2', '-g'],
    ['-a', '-t', `${LAN_VIP}:80`, '-r', '192.168.2.3', '-g'],
    ['-A', '-t', `${LAN_VIP}:21`, '-s', 'wlc', '-p', '540'],
    ['-a', '-t', `${LAN_VIP}:21`, '-r', '192.168.2.2', '-g'],
    ['-a', '-t', `${LAN_VIP}:21`, '-r', '192.168.2.3', '-g'],
    ['-ln'],
  ],
  ftp: true,
  source: CLIENT,
};

const tun: Scene = {
  method: 'tun',
  title: 'TUN: requests travel to other networks in a tunnel, replies go straight to the client',
  vip: LAN_VIP,
  clients: [CLIENT],
  realServers: [
    { address: '10.1.0.2', port: 80 },
    { address: '10.2.0.2', port: 80 },
  ],
  setup: ['--vip', LAN_VIP, '--method', 'tun'],
  commands: [
    ['-A', '-t', `${LAN_VIP}:80`, '-s', 'wlc'],
    ['-a', '-t', `${LAN_VIP}:80`, '-r', '10.1.0.2', '-i'],
    ['-a', '-t', `${LAN_VIP}:80`, '-r', '10.2.0.2', '-i'],
    ['-ln'],
  ],
  ftp: false,
  source: CLIENT,
};

const fullnat: Scene = {
  method: 'fullnat',
  title: 'FULLNAT: real servers need no route to the client, they answer the director',
  vip: NAT_VIP,
  clients: [CLIENT],
  realServers: nat.realServers,
  commands: [
    ['-A', '-t', `${NAT_VIP}:80`, '-s', 'rr'],
    ['-P', '-z', LOCAL_ADDRESS, '-t', `${NAT_VIP}:80`, '-F', 'eth1'],
    ['-a', '-t', `${NAT_VIP}:80`, '-r', '192.168.45.2:8000', '--fullnat'],
    ['-a', '-t', `${NAT_VIP}:80`, '-r', '192.168.45.3', '--fullnat'],
    ['-ln'],
  ],
  ftp: false,
  source: LOCAL_ADDRESS,
};

export const SCENES: Readonly<Record<Method, Scene>> = { nat, dr, tun, fullnat };

export const webService = ({ vip }: Scene): ServiceId => ({
  kind: 'address',
  family: 'ipv4',
  protocol: 'tcp',
  address: vip,
  port: 80,
});
