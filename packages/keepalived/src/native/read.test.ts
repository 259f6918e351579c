import { expect, test } from 'vitest';
import { formatDiagnostic, verdictOf } from '../conf/diagnostics.ts';
import { lineFinder } from '../conf/parse.ts';
import { loadKeepalivedText, loadNativeText } from '../model/load.ts';
import { outline } from '../model/outline.ts';
import { configurationJsonSchema } from './schema.ts';

const YAML = `
services:
  - address: 10.0.0.1
    port: 80
    scheduler: mh
    schedulerFlags: [port]
    persistence: { seconds: 120, prefix: 24 }
    quorum: 2
    sorryServer: { address: 10.1.0.9, port: 80 }
    checks:
      - type: http
        every: 2
        retries: 3
        urls: [{ path: /health, status: [200, 301-302] }]
    realServers:
      - { address: 10.1.0.1, port: 8080, weight: 3 }
      - address: 10.1.0.2
        port: 8080
        keepWhenDown: true
        checks:
          - { type: command, command: { run: [/usr/local/bin/probe, two words], user: nobody }, statusIsWeight: true }
          - { type: udp, payload: Ab 12, reply: xx, timeout: 1 }
  - address: [10.0.0.2-3, 10.0.0.4]
    port: 443
    forwarding: dr
    realServers: [{ address: 10.1.0.1 }]
`;

const CONF = `
virtual_server 10.0.0.1 80 {
    lvs_sched mh
    mh-port
    lvs_method NAT
    protocol TCP
    persistence_timeout 120
    persistence_granularity 24
    quorum 2
    sorry_server 10.1.0.9 80
    real_server 10.1.0.1 8080 {
        weight 3
        HTTP_GET {
            delay_loop 2
            retry 3
            url {
                path /health
                status_code 200 301-302
            }
        }
    }
    real_server 10.1.0.2 8080 {
        inhibit_on_failure
        MISC_CHECK {
            misc_path "/usr/local/bin/probe 'two words'"
            user nobody
            misc_dynamic
        }
        UDP_CHECK {
            payload Ab 12
            require_reply xx
            connect_timeout 1
        }
    }
}
virtual_server_group services.1 {
    10.0.0.2-3 443
    10.0.0.4 443
}
virtual_server group services.1 {
    lvs_sched wlc
    lvs_method DR
    protocol TCP
    real_server 10.1.0.1 {
    }
}
`;

test('YAML and keepalived.conf that say the same mean the same', () => {
  const native = loadNativeText('ipvsd.yaml', YAML);
  const conf = loadKeepalivedText(CONF);
  expect(verdictOf(native.diagnostics)).toBe('good');
  expect(verdictOf(conf.diagnostics)).toBe('good');
  expect(outline(native.configuration)).toBe(outline(conf.configuration));
});

test('FULLNAT says the same in both, in the words of DPVS there', () => {
  const native = loadNativeText(
    'ipvsd.yaml',
    `
services:
  - address: 10.0.0.1
    port: 80
    forwarding: fullnat
    localAddresses: [10.1.0.250, 10.1.0.251]
    realServers: [{ address: 10.1.0.1, port: 8000 }]
`,
  );
  const conf = loadKeepalivedText(`
local_address_group inner {
    10.1.0.250-251 eth1
}
virtual_server 10.0.0.1 80 {
    lvs_sched wlc
    lvs_method FNAT
    protocol TCP
    laddr_group_name inner
    real_server 10.1.0.1 8000 {
    }
}
`);
  expect([native, conf].map(({ diagnostics }) => verdictOf(diagnostics))).toEqual(['good', 'good']);
  expect(outline(native.configuration)).toBe(outline(conf.configuration));
  expect(outline(conf.configuration)).toContain(
    '  local 10.1.0.250 10.1.0.251\n  -> [10.1.0.1]:8000 fullnat weight 1\n',
  );
});

test('what is wrong is said with its place in the YAML', () => {
  const text =
    'services:\n  - address: 10.0.0.x\n    port: 80\n    realServers:\n      - address: 10.1.0.1\n        wieght: 3\n';
  const { diagnostics, sources } = loadNativeText('ipvsd.yaml', text);
  expect(verdictOf(diagnostics)).toBe('refused');
  const lines = diagnostics.map((diagnostic) => formatDiagnostic(diagnostic, lineFinder(sources)));
  expect(lines[0]).toMatch(/^ipvsd\.yaml:2:14: fatal: services\.0\.address: .*\n {4}- address: 10\.0\.0\.x\n/);
  expect(lines[1]).toMatch(/^ipvsd\.yaml:5:9: fatal: services\.0\.realServers\.0: Unrecognized key: "wieght"/);
});

test('text that is no YAML is said with its place too', () => {
  const { diagnostics } = loadNativeText('ipvsd.yaml', 'services: [\n');
  expect(diagnostics.map(({ severity, position }) => [severity, position.line])).toEqual([['fatal', 2]]);
});

const service = (more: string): string =>
  `services:\n  - address: 10.0.0.1\n    port: 80\n    realServers: [{ address: 10.1.0.1 }]\n${more}`;

test('load and slow start of a service win over those for all', () => {
  const { configuration, diagnostics } = loadNativeText(
    'ipvsd.yaml',
    `load: { from: agent }\nslowStart: 20\n${service('    load: { from: "http:8080/load", every: 2, stale: 30, least: 50, change: 5 }\n')}` +
      '  - { address: 10.0.0.2, port: 80, realServers: [{ address: 10.1.0.1 }], slowStart: 0 }\n',
  );
  expect(diagnostics).toEqual([]);
  expect(configuration.virtualServers.map(({ load, slowStartMs }) => ({ load, slowStartMs }))).toEqual([
    {
      load: {
        source: 'http:8080/load',
        everyMs: 2000,
        settings: { staleMs: 30_000, minimumFactor: 0.5, mostPerSecond: 0.05 },
      },
      slowStartMs: 20_000,
    },
    { load: { source: 'agent', everyMs: 1000, settings: {} }, slowStartMs: 0 },
  ]);
});

test.each([
  ['    load: { from: telepathy }\n', /load\.from: must be agent/],
  ['    load: { from: "agent:99999" }\n', /load\.from: must be agent/],
  ['    load: { from: agent, every: 5, stale: 5 }\n', /load: stale must be more than every/],
  ['    load: { from: agent, least: 0 }\n', /load\.least/],
  ['    slowStart: -1\n', /slowStart/],
])('load settings that make no sense are refused: %s', (more, message) => {
  const { diagnostics } = loadNativeText('ipvsd.yaml', service(more));
  expect(verdictOf(diagnostics)).toBe('refused');
  expect(diagnostics[0]?.message).toMatch(message);
});

test('load and slow start with a scheduler that does not go by weight are found', () => {
  const more = '    scheduler: rr\n    load: { from: agent }\n    slowStart: 10\n';
  const found = loadNativeText('ipvsd.yaml', service(more)).diagnostics.map(
    ({ severity, message }) => `${severity}: ${message}`,
  );
  expect(found).toEqual([
    'finding: [10.0.0.1]:tcp:80 is scheduled by rr, which does not go by weight: load has no effect',
    'finding: [10.0.0.1]:tcp:80 is scheduled by rr, which does not go by weight: slowStart has no effect',
  ]);
});

test('silence has a word of its own, and its reset is for TCP alone', () => {
  const { configuration, diagnostics } = loadNativeText(
    'ipvsd.yaml',
    service(
      '    idle: { seconds: 30, reset: true }\n  - { fwmark: 1, realServers: [{ address: 10.1.0.1 }], idle: { reset: true } }\n',
    ),
  );
  expect(diagnostics).toEqual([]);
  expect(configuration.virtualServers.map(({ settings }) => settings.idle)).toEqual([
    { timeoutSeconds: 30, reset: true },
    { timeoutSeconds: 0, reset: true },
  ]);
  const refused = loadNativeText('ipvsd.yaml', service('    protocol: udp\n    idle: { reset: true }\n'));
  expect(refused.diagnostics[0]?.message).toMatch(/idle\.reset is for TCP alone/);
});

test('the largest segment is a number of bytes or what fits, and for TCP alone', () => {
  const sizes = ['1400', 'auto'].map((mss) => {
    const { configuration, diagnostics } = loadNativeText('ipvsd.yaml', service(`    mss: ${mss}\n`));
    expect(diagnostics).toEqual([]);
    return configuration.virtualServers[0]?.settings.segmentSize;
  });
  expect(sizes).toEqual([1400, 'auto']);
  const complaint = (more: string) => loadNativeText('ipvsd.yaml', service(more)).diagnostics[0]?.message;
  expect(complaint('    mss: 40\n')).toMatch(/mss/);
  expect(complaint('    protocol: udp\n    mss: auto\n')).toMatch(/mss is for TCP alone/);
});

test('the schema is published as JSON Schema', () => {
  const schema = configurationJsonSchema();
  expect(schema['$schema']).toContain('json-schema.org');
  expect(JSON.stringify(schema)).toContain('"realServers"');
});
