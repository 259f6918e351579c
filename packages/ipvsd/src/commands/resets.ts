/**
 * `ipvsd resets`: sends the RSTs of connections that went by silence (`ipvsadm --reset-at-expiry`), until it is told to end.
 * `ipvsd run` does so too.
 */
import { KernelPlane, ResetSender } from '@ipvsd/director';

const PERIOD_MS = 200;

export interface Resetting {
  stop(): void;
}

/** Does so beside other work; `complain` hears of what could not be sent. A director that comes later is found. */
export function startResets(complain: (error: Error) => void): Resetting {
  let sender: ResetSender | undefined;
  const turn = (): void => {
    try {
      sender ??= openSender(complain);
      sender?.turn();
    } catch (error) {
      // The director was taken away: the next one is looked for.
      sender?.close();
      sender = undefined;
      complain(error as Error);
    }
  };
  const timer = setInterval(turn, PERIOD_MS);
  return {
    stop: () => {
      clearInterval(timer);
      sender?.close();
    },
  };
}

function openSender(complain: (error: Error) => void): ResetSender | undefined {
  const plane = KernelPlane.open();
  return plane && new ResetSender(plane, complain);
}

export async function resets(): Promise<void> {
  const resetting = startResets((error) => process.stderr.write(`${error.message}\n`));
  process.stdout.write('Sending the resets of connections that go by silence\n');
  await new Promise<void>((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
  resetting.stop();
}
