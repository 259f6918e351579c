/** The keywords of virtual servers, their real servers and their checks. */
import { block, type Keywords, list } from './keyword.ts';

const SECONDS = 'timer(0..2147483)';

const inherited: Keywords = {
  alpha: 'bool?',
  connect_timeout: 'timer(0.001..2147483)',
  retry: 'integer(0..4294967295)',
  delay_before_retry: SECONDS,
  warmup: SECONDS,
  delay_loop: 'timer(0.001..2147483)',
};

const checker: Keywords = { ...inherited, log_all_failures: 'bool?' };

const connection: Keywords = {
  ...checker,
  connect_ip: 'address',
  connect_port: 'port',
  bindto: 'address',
  bind_port: 'port',
  bind_if: 'word',
  fwmark: 'integer(0..4294967295)',
};

const url: Keywords = {
  path: 'word',
  digest: 'word',
  status_code: 'word*',
  virtualhost: 'word~',
  regex: 'word?',
  regex_no_match: '',
  regex_options: 'word*',
  regex_stack: 'integer(1..) integer(1..)',
  regex_min_offset: 'integer(0..)?',
  regex_max_offset: 'integer(1..)',
  tls_compliant: 'bool?',
};

const get: Keywords = {
  ...connection,
  nb_get_retry: 'integer(0..4294967295)',
  virtualhost: 'word~',
  http_protocol: 'choice(1.0|1.0C|1.0c|1.1)~',
  fast_recovery: 'bool?',
  enable_sni: 'bool?',
  sni_name: 'word',
  tls_compliant: 'bool?',
  url: block('', url),
};

export const checks: Keywords = {
  TCP_CHECK: block('', connection),
  HTTP_GET: block('', get),
  SSL_GET: block('', get),
  SMTP_CHECK: block('', { ...connection, helo_name: 'word~', host: block('', connection) }),
  DNS_CHECK: block('', { ...connection, type: 'word', name: 'word' }),
  UDP_CHECK: block('', {
    ...connection,
    payload: 'word~ word*',
    require_reply: 'word*',
    min_reply_length: 'integer(0..65535)',
    max_reply_length: 'integer(0..65535)',
  }),
  PING_CHECK: block('', connection),
  MISC_CHECK: block('', {
    ...checker,
    misc_path: 'script~',
    misc_timeout: 'timer(0.001..2147483)',
    misc_dynamic: '',
    user: 'word~ word?',
  }),
  FILE_CHECK: block('', {
    ...checker,
    track_file: 'word',
    dynamic: 'bool?',
    weight: 'integer(-2147483647..2147483647) word?',
  }),
  BFD_CHECK: block('', { name: 'word', alpha: 'bool?' }),
};

/** FNAT is DPVS's word, as are the local addresses below. */
const method = 'choice(NAT|DR|TUN|FNAT) word*';

const realServer: Keywords = {
  ...inherited,
  ...checks,
  weight: 'integer(0..2147483647)',
  lvs_method: method,
  lb_kind: method,
  uthreshold: 'integer(0..4294967295)',
  lthreshold: 'integer(0..4294967295)',
  inhibit_on_failure: 'bool?',
  notify_up: 'script word? word?',
  notify_down: 'script word? word?',
  smtp_alert: 'bool?',
  virtualhost: 'word~',
  snmp_name: 'word~',
};

export const virtualServer: Keywords = {
  ...inherited,
  delay_loop: 'timer(0.001..2147483)',
  ip_family: 'choice(inet|inet6)',
  lvs_sched: 'word',
  lb_algo: 'word',
  lvs_method: method,
  lb_kind: method,
  hashed: '',
  ops: '',
  'flag-1': '',
  'flag-2': '',
  'flag-3': '',
  'sh-port': '',
  'sh-fallback': '',
  'mh-port': '',
  'mh-fallback': '',
  persistence_timeout: 'integer(1..2678400)?',
  persistence_granularity: 'word',
  persistence_engine: 'word',
  protocol: 'choice(TCP|UDP|SCTP)',
  ha_suspend: '',
  virtualhost: 'word~',
  alpha: 'bool?',
  omega: 'bool?',
  quorum: 'integer(1..4294967295)',
  hysteresis: 'integer(0..4294967295)',
  quorum_up: 'script word? word?',
  quorum_down: 'script word? word?',
  inhibit_on_failure: 'bool?',
  weight: 'integer(0..2147483647)',
  laddr_group_name: 'word',
  proxy_protocol: 'choice(v1|v2|v2-each)',
  mss: 'integer(48..65495|auto)',
  establish_timeout: 'integer(1..2678400)',
  sorry_server: 'word word?',
  sorry_server_inhibit: '',
  sorry_server_lvs_method: method,
  smtp_alert: 'bool?',
  snmp_name: 'word~',
  real_server: block('word word?', realServer),
};

export const lvs: Keywords = {
  virtual_server_group: list('word'),
  local_address_group: list('word'),
  virtual_server: block('word word?', virtualServer),
  SSL: block('', { password: 'word', ca: 'word', certificate: 'word', key: 'word' }),
  track_file: block('word', trackFile()),
  vrrp_track_file: block('word', trackFile()),
  bfd_instance: block('word', {
    neighbor_ip: 'address',
    source_ip: 'address',
    min_rx: 'word',
    min_tx: 'word',
    idle_tx: 'word',
    multiplier: 'integer(1..255)',
    passive: '',
    ttl: 'integer(1..255)',
    hoplimit: 'integer(1..255)',
    max_hops: 'integer(-1..255)',
    multihop: 'bool?',
    weight: 'integer(-253..253) word?',
    vrrp: '',
    checker: '',
  }),
};

function trackFile(): Keywords {
  return { file: 'word', weight: 'integer(-2147483647..2147483647) word?', init_file: 'word? word?' };
}
