/** Asks a net-snmp agent for the UCD figures: how idle the CPU is, and the load average where that is all there is. */
import { createSocket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { LoadReport, Source } from '../report.ts';
import { decodeResponse, encodeGet, type SnmpResponse } from './snmp.ts';

export interface SnmpSourceOptions {
  readonly port?: number;
  readonly community?: string;
  readonly timeoutMs: number;
  /** For the load average, which counts tasks and not shares. */
  readonly cpus?: number;
}

const UCD = '1.3.6.1.4.1.2021';
export const SS_CPU_IDLE = `${UCD}.11.11.0`;
export const LA_LOAD_INT_1 = `${UCD}.10.1.5.1`;
const OIDS = [SS_CPU_IDLE, LA_LOAD_INT_1];

export function snmpSource({ port = 161, community = 'public', timeoutMs, cpus = 1 }: SnmpSourceOptions): Source {
  let id = Math.floor(Math.random() * 2 ** 30);
  return {
    ask: (address) =>
      new Promise((resolve, reject) => {
        id = (id + 1) & 0x7fffffff;
        const asked = id;
        const socket = createSocket(isIPv6(address) ? 'udp6' : 'udp4');
        const timer = setTimeout(() => finish(() => reject(new Error('no answer in time'))), timeoutMs);
        const finish = (outcome: () => void): void => {
          clearTimeout(timer);
          socket.close();
          outcome();
        };
        socket.on('error', (error) => finish(() => reject(error)));
        socket.on('message', (bytes) => {
          try {
            const response = decodeResponse(bytes);
            if (response.id === asked) finish(() => resolve(readUcd(response, cpus)));
          } catch (error) {
            finish(() => reject(error));
          }
        });
        socket.on('connect', () => socket.send(encodeGet(community, asked, OIDS)));
        socket.connect(port, address);
      }),
  };
}

/** Idle per cent are a minute old at most; the load average, in hundredths, says what waits beyond the CPUs. */
export function readUcd({ error, values }: SnmpResponse, cpus: number): LoadReport {
  if (error !== 0) throw new Error(`SNMP error ${error}`);
  const idle = values.get(SS_CPU_IDLE);
  const average = values.get(LA_LOAD_INT_1);
  const perCpu = typeof average === 'number' ? average / 100 / cpus : undefined;
  if (typeof idle === 'number')
    return { load: Math.max(1 - idle / 100, Math.max(0, (perCpu ?? 0) - 1) + 1 - idle / 100) };
  if (perCpu === undefined) throw new Error('the agent has no UCD figures (ssCpuIdle, laLoadInt)');
  return { load: perCpu };
}
