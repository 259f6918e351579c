import { expect, test } from 'vitest';
import { DirectorError } from './errors.ts';
import { acceptSysctl, defaultSysctls, describeSysctls } from './sysctls.ts';

test.each([
  ['am_droprate', '-1', '-1'],
  ['am_droprate', '0x10', '16'],
  ['am_droprate', '010', '8'],
  ['am_droprate', '5 6', '5'],
  ['am_droprate', 'x', 'EINVAL'],
  ['am_droprate', '5x', 'EINVAL'],
  ['am_droprate', '+5', 'EINVAL'],
  ['am_droprate', '', 'EINVAL'],
  ['am_droprate', '2147483648', 'EINVAL'],
  ['drop_entry', '2', '1'],
  ['drop_entry', '3', '3'],
  ['drop_entry', '4', 'EINVAL'],
  ['sync_version', '2', 'EINVAL'],
  ['sync_retries', '3', '3'],
  ['sync_ports', '8', '8'],
  ['sync_ports', '6', 'EINVAL'],
  ['sync_ports', '0', 'EINVAL'],
  ['sync_threshold', '5 100', '5\t100'],
  ['sync_threshold', '10', '10\t50'],
  ['sync_threshold', '50', 'EINVAL'],
  ['sync_threshold', '9 0', '9\t0'],
  ['sync_threshold', '50 50', 'EINVAL'],
  ['sync_refresh_period', '21474836', '21474836'],
  ['sync_refresh_period', '21474837', 'EINVAL'],
  ['sync_qlen_max', '-1', '4096'],
  ['ftp_ports', '21,2121', '21,2121'],
  ['ftp_ports', '2121 21 2121', '2121,21'],
  ['ftp_ports', 'none', 'none'],
  ['ftp_ports', '', 'none'],
  ['ftp_ports', '0', 'EINVAL'],
  ['ftp_ports', '21,65536', 'EINVAL'],
  ['ftp_ports', '21,ftp', 'EINVAL'],
  ['ftp_ports', '1,2,3,4,5,6,7,8,9', 'EINVAL'],
  ['debug_level', '1', 'EACCES'],
  ['nosuch', '1', 'ENOENT'],
])('%s takes "%s" as %s', (name, text, expected) => {
  const result = acceptSysctl(name, text, defaultSysctls().get(name) ?? '');
  expect(result instanceof DirectorError ? result.code : result).toBe(expected);
});

test('a refusal says what was to be done, what is there, and what would be right', () => {
  const words = (name: string, text: string): string => {
    const result = acceptSysctl(name, text, defaultSysctls().get(name) ?? '');
    return result instanceof DirectorError ? result.message : result;
  };
  expect(words('drop_entry', '9')).toBe('Cannot set drop_entry to "9": it is 0, must be 0..3');
  expect(words('debug_level', '1')).toBe('Cannot set debug_level to "1": it is read-only and stays 0');
  expect(words('nosuch', '1')).toMatch(/^Cannot set nosuch to "1": there is no such setting, must be one of those/);
});

test('every setting has a sentence, and takes its own default unless it is read-only', () => {
  for (const { name, initial, readOnly, sentence, takes } of describeSysctls()) {
    expect(sentence, name).toMatch(/^[A-Z0-9].*\.$/);
    expect(takes).not.toBe('');
    if (!readOnly) expect(acceptSysctl(name, initial, initial)).toBe(initial);
  }
});
