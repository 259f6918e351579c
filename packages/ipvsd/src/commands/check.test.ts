import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { check } from './check.ts';

const folder = mkdtempSync(join(tmpdir(), 'ipvsd-check-'));
afterAll(() => rmSync(folder, { recursive: true }));

function run(lines: string, options: Parameters<typeof check>[1] = {}) {
  const path = join(folder, 'k.conf');
  writeFileSync(path, `virtual_server 10.0.0.1 80 {\nlvs_sched rr\nlvs_method NAT\nprotocol TCP\n${lines}\n}\n`);
  let output = '';
  const status = check(path, options, (text) => {
    output += text;
  });
  return { status, output: output.replaceAll(`${folder}/`, '') };
}

const SERVER = 'real_server 10.1.0.1 80 {\nTCP_CHECK {\n}\n}';

test("the exit status is keepalived's: 0 good, 4 errors, 3 refused", () => {
  expect(run(SERVER)).toEqual({ status: 0, output: 'k.conf: keepalived takes it as it is, 1 virtual servers\n' });
  const wrong = run(`lvs_shed wlc\n${SERVER}`);
  expect(wrong.status).toBe(4);
  expect(wrong.output).toContain('k.conf:5:1: error: There is no keyword "lvs_shed"');
  expect(run(`quorum\n${SERVER}`).status).toBe(3);
});

test('a scheduler that keepalived lacks and we have is taken, and said', () => {
  const { status, output } = run(`lvs_sched ll\n${SERVER}`, { outline: true });
  expect(status).toBe(0);
  expect(output).toContain('The scheduler ll is ours; keepalived would ignore the line and take wlc');
  expect(output).toContain('[10.0.0.1]:tcp:80 ll\n');
});

test('with --strict findings count, as 6', () => {
  const findings = `${SERVER}\nreal_server 10.1.0.2 80 {\n}`;
  expect(run(findings).status).toBe(0);
  expect(run(findings, { strict: true }).status).toBe(6);
});

test('a file that is not there is refused', () => {
  expect(check('/no/such/file', {}, () => {})).toBe(3);
});

test('our own YAML is judged by itself, and a check for all real servers is spoken of once', () => {
  const path = join(folder, 'own.yaml');
  const own = (more: string): string => {
    writeFileSync(
      path,
      `services:\n  - address: 10.0.0.1\n    port: 80\n    checks: [{ type: tcp, every: 2 }]\n${more}    realServers: [{ address: 10.1.0.1 }, { address: 10.1.0.2 }]\n`,
    );
    let output = '';
    check(path, {}, (text) => {
      output += text;
    });
    return output.replaceAll(`${folder}/`, '');
  };
  const good = own('');
  expect(good.match(/finding: connect_timeout/g)?.length).toBe(1);
  expect(good).toContain('own.yaml: nothing is wrong, 1 virtual servers');
  expect(own('    quorum: 5\n')).toContain('own.yaml: ipvsd run refuses it');
});

test('with --json it is one object', () => {
  const { verdict, diagnostics } = JSON.parse(run(SERVER, { json: true }).output);
  expect({ verdict, diagnostics }).toEqual({ verdict: 'good', diagnostics: [] });
});
