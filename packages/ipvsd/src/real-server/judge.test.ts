import { describe, expect, test } from 'vitest';
import { type Finding, judge } from './judge.ts';
import type { Survey, SurveyedInterface } from './survey.ts';
import type { Wish } from './wish.ts';

const VIP = '192.168.2.254';
const DR: Wish = { vip: VIP, method: 'dr', tunnel: 'ipip', port: 6080, segmentSize: 'auto' };
const TUN: Wish = { ...DR, method: 'tun' };

const LO: SurveyedInterface = {
  name: 'lo',
  ifindex: 1,
  loopback: true,
  up: true,
  ethernet: false,
  kind: undefined,
  mtu: 65_536,
  arpIgnore: 0,
  arpAnnounce: 0,
  rpFilter: 0,
};
const ETH0: SurveyedInterface = {
  ...LO,
  name: 'eth0',
  ifindex: 2,
  loopback: false,
  ethernet: true,
  mtu: 1500,
  arpIgnore: 1,
  arpAnnounce: 2,
};

/** A real server of the classic cluster with nothing wrong. */
const RIGHT: Survey = {
  interfaces: [LO, ETH0],
  addresses: [
    { interface: 'lo', address: '127.0.0.1/8', tentative: false },
    { interface: 'lo', address: `${VIP}/32`, tentative: false },
    { interface: 'eth0', address: '192.168.2.2/24', tentative: false },
  ],
  routes: [{ to: 'default', family: 'ipv4', via: '192.168.2.1', interface: 'eth0' }],
  attached: new Set(['eth0']),
  programs: new Map([[VIP, { tunnels: 1, port: 6080, segmentSize: 1440 }]]),
};

const withEth0 = (change: Partial<SurveyedInterface>): Survey => ({
  ...RIGHT,
  interfaces: [LO, { ...ETH0, ...change }],
});
const withVip = (name: string, address: string): Survey => ({
  ...RIGHT,
  addresses: [
    ...RIGHT.addresses.filter((one) => !one.address.startsWith(VIP)),
    { interface: name, address, tentative: false },
  ],
});

const found = (wish: Wish, survey: Survey): [name: string, command: string][] =>
  judge(wish, survey, { decapsulation: 'program' }).map(({ name, command }: Finding) => [name, command]);

test('a real server that is right has nothing to mend', () => {
  expect(found(DR, RIGHT)).toEqual([]);
  expect(found(TUN, RIGHT)).toEqual([]);
});

const CASES: readonly (readonly [what: string, wish: Wish, survey: Survey, name: string, command: string])[] = [
  [
    'a missing VIP',
    DR,
    { ...RIGHT, addresses: RIGHT.addresses.slice(2) },
    'vip-missing',
    `ip address add ${VIP}/32 dev lo`,
  ],
  [
    'a VIP that ARP is answered for',
    DR,
    withVip('eth0', `${VIP}/24`),
    'vip-announced',
    `ip address delete ${VIP}/24 dev eth0`,
  ],
  [
    'a VIP with the prefix of its network',
    DR,
    withVip('lo', `${VIP}/24`),
    'vip-prefix',
    `ip address delete ${VIP}/24 dev lo && ip address add ${VIP}/32 dev lo`,
  ],
  ['arp_ignore', DR, withEth0({ arpIgnore: 0 }), 'arp-answered', 'sysctl -w net.ipv4.conf.all.arp_ignore=1'],
  ['arp_announce', DR, withEth0({ arpAnnounce: 1 }), 'arp-announced', 'sysctl -w net.ipv4.conf.all.arp_announce=2'],
  [
    'a loopback that is down',
    DR,
    { ...RIGHT, interfaces: [{ ...LO, up: false }, ETH0] },
    'loopback-down',
    'ip link set lo up',
  ],
  [
    'a reverse path that is filtered',
    DR,
    {
      ...RIGHT,
      interfaces: [LO, ETH0, { ...ETH0, name: 'eth1.7', ifindex: 3, rpFilter: 1 }],
    },
    'rp-filter',
    'sysctl -w net/ipv4/conf/eth1.7/rp_filter=2',
  ],
  [
    'replies through the director',
    { ...DR, director: '192.168.2.1' },
    RIGHT,
    'gateway-is-director',
    'ip route replace default via ROUTER',
  ],
  ['no way back', DR, { ...RIGHT, routes: [] }, 'no-default-route', 'ip route add default via ROUTER'],
  [
    'a tunnel that nothing opens',
    TUN,
    { ...RIGHT, attached: new Set() },
    'no-decapsulation',
    `ipvsd real-server setup --vip ${VIP} --method tun`,
  ],
  [
    'a tunnel of another kind',
    { ...TUN, tunnel: 'gue' },
    { ...RIGHT, programs: new Map([[VIP, { tunnels: 4, port: 6081, segmentSize: 1400 }]]) },
    'no-decapsulation',
    `ipvsd real-server setup --vip ${VIP} --method tun --tunnel gue`,
  ],
  [
    'segments that do not fit',
    TUN,
    withEth0({ mtu: 1400 }),
    'mtu',
    `ipvsd real-server setup --vip ${VIP} --method tun`,
  ],
];

describe('check names', () => {
  test.each(CASES)('%s', (_what, wish, survey, name, command) => {
    expect(found(wish, survey)).toEqual([[name, command]]);
  });

  test('every interface that answers, and mends all of them at once', () => {
    const [finding] = judge(
      DR,
      { ...RIGHT, interfaces: [LO, { ...ETH0, arpIgnore: 0 }, { ...ETH0, name: 'eth1', arpIgnore: 0 }] },
      { decapsulation: 'program' },
    );
    expect(finding?.sentence).toMatch(/^eth0, eth1: ARP for the VIP is answered/);
    expect(finding?.mend).toEqual({ kind: 'sysctl', name: 'net/ipv4/conf/all/arp_ignore', value: 1 });
  });
});

describe('set-up', () => {
  test('leaves a longer header room where the director may send by IPv6', () => {
    const survey: Survey = {
      ...RIGHT,
      addresses: [...RIGHT.addresses, { interface: 'eth0', address: 'fd00:2::2/64', tentative: false }],
    };
    const mends = judge(TUN, survey, { decapsulation: 'program' }).map(({ mend }) => mend);
    expect(mends).toEqual([expect.objectContaining({ kind: 'vip', segmentSize: 1500 - 40 - 40 })]);
    expect(found({ ...TUN, director: '192.168.2.10' }, survey)).toEqual([]);
  });

  test("opens tunnels with the kernel's own device where it is told so", () => {
    const mends = judge(TUN, RIGHT, { decapsulation: 'device' }).map(({ mend, command }) => [mend, command]);
    expect(mends).toEqual([
      [
        { kind: 'device', name: 'ipvsd-ipip', tunnel: 'ipip', local: '192.168.2.2' },
        'ip link add ipvsd-ipip type ipip local 192.168.2.2 && ip link set ipvsd-ipip up',
      ],
    ]);
    const device: SurveyedInterface = { ...LO, name: 'ipvsd-ipip', loopback: false, rpFilter: 1 };
    const survey = { ...RIGHT, interfaces: [LO, ETH0, device] };
    expect(judge(TUN, survey, { decapsulation: 'device' }).map(({ command }) => command)).toEqual([
      'sysctl -w net.ipv4.conf.ipvsd-ipip.rp_filter=2',
    ]);
  });

  test('asks nothing of ARP for IPv6, which answers for its own interface only', () => {
    const wish: Wish = { ...DR, vip: 'fd00:2::254' };
    const survey: Survey = { ...withEth0({ arpIgnore: 0, arpAnnounce: 0 }), routes: [] };
    expect(judge(wish, survey, { decapsulation: 'program' }).map(({ command }) => command)).toEqual([
      'ip address add fd00:2::254/128 dev lo',
      'ip -6 route add default via ROUTER',
    ]);
  });
});
