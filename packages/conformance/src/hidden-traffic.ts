/**
 * Traffic that some recordings do not write down as events but tell of in a note, or show by what it left: half-open
 * entries before the first `count`, one-packet datagrams behind `rate`, a burst before statistics are looked at.
 */
import type { Event, Scenario } from './events.ts';
import type { Stage } from './stage.ts';
import { tcpPacket, udpPacket } from './wire.ts';

interface Template {
  readonly client: string;
  readonly pe?: readonly string[];
}

const MICROSECONDS = 1_000_000;
/** Half-open entries that the defence scenarios begin with. */
const HALF_OPEN = 200;

export class HiddenTraffic {
  readonly #scenario: Scenario;
  readonly #stage: Stage;
  /** The defence drops at random. */
  readonly byChance: boolean;
  #firstCount: Event | undefined;
  #port = 10_000;

  constructor(scenario: Scenario, stage: Stage) {
    this.#scenario = scenario;
    this.#stage = stage;
    this.#firstCount = scenario.events.find(({ op }) => op === 'count');
    this.byChance = /random/.test(scenario.note ?? '') || /^drop-/.test(scenario.scenario);
    const rates = scenario.events.filter(({ op }) => op === 'rate');
    if (rates.length > 0) this.#scheduleFlows(rates);
  }

  firstCount(event: Event): boolean {
    return event === this.#firstCount;
  }

  /** The Call-ID that a datagram bore of which only the template that it left behind tells. */
  callIdOf(event: Event): string | undefined {
    const after = this.#scenario.events.slice(this.#scenario.events.indexOf(event) + 1);
    const next = after.find(({ conns }) => conns !== undefined)?.['conns'] as readonly Template[] | undefined;
    const template = `${event['src']}:0`.replace(/^(.*:.*):0$/, '[$1]:0');
    return next?.find(({ client, pe }) => client === template && pe !== undefined)?.pe?.[1];
  }

  /** Called before each event is carried out. */
  before(event: Event, index: number): void {
    if (event === this.#firstCount) this.#halfOpen();
    const burst = this.#burstBefore(event, index);
    for (let n = 0; n < burst; n++) this.#datagram(1);
    if (burst > 0) this.#stage.clock.settle();
  }

  #halfOpen(): void {
    const { address, port } = this.#service('-t');
    for (let n = 0; n < HALF_OPEN; n++) {
      const ends = {
        source: `192.168.77.${1 + (n % 200)}`,
        sourcePort: 1024 + n,
        destination: address,
        destinationPort: port,
      };
      this.#stage.network.toDirector(tcpPacket({ ...ends, flags: 'S', sequence: n, acknowledgement: 0 }), 'client');
    }
    this.#stage.clock.settle();
  }

  /** "10 one-packet UDP flows a second (100-byte payload) ... then silence": half of the time, as the readings show. */
  #scheduleFlows(rates: readonly Event[]): void {
    const match = /(\d+) one-packet UDP flows a second \((\d+)-byte payload\)/.exec(this.#scenario.note ?? '');
    if (match === null) return;
    const perSecond = Number(match[1]);
    const until = silenceAfter(rates);
    for (let n = 0; n < until * perSecond; n++) {
      this.#stage.clock.after((n / perSecond) * MICROSECONDS, () => this.#datagram(Number(match[2])));
    }
  }

  /** A `sleep` that took longer than it slept was preceded by a millisecond for each datagram sent. */
  #burstBefore(event: Event, index: number): number {
    if (event.op !== 'sleep') return 0;
    const before = index === 0 ? 0 : this.#scenario.events[index - 1]!.t;
    const spare = event.t - before - Number(event['s']);
    return spare > 0.02 ? Math.floor((spare * 1000) / 10) * 10 : 0;
  }

  #datagram(bytes: number): void {
    const { address, port } = this.#service('-u');
    const v6 = address.includes(':');
    const ends = {
      source: v6 ? '2001:db8:c::9' : '172.16.0.9',
      sourcePort: this.#port++,
      destination: address,
      destinationPort: port,
    };
    this.#stage.network.toDirector(udpPacket(ends, new Uint8Array(bytes)), 'client');
  }

  #service(option: string): { address: string; port: number } {
    for (const { op, args } of this.#scenario.events) {
      const match = op === 'ipvsadm' && new RegExp(`^-A ${option} \\[?(\\S+?)\\]?:(\\d+)`).exec(String(args));
      if (match) return { address: match[1]!, port: Number(match[2]) };
    }
    throw new Error(`Cannot play "${this.#scenario.scenario}": no service with ${option} is added in it`);
  }
}

/** Seconds after which the rates only fall. */
function silenceAfter(rates: readonly Event[]): number {
  const bytes = rates.map((event) =>
    Number(
      String((event['rate'] as readonly string[])[0])
        .trim()
        .split(/\s+/)
        .at(-2),
    ),
  );
  let last = 0;
  for (const [i, value] of bytes.entries()) if (value >= 0.9 * Math.max(...bytes)) last = i;
  return Number(rates[last]!['sec']);
}
