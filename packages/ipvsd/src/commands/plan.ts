/** `ipvsd plan -f FILE`: what a reload would add, remove and change, and how many live connections each touches. */
import { type Command, type Director, realServerKey, type ServiceId, serviceKey } from '@ipvsd/director';
import { commandsFor, loadConfigurationFile, ServiceHealth, verdictOf } from '@ipvsd/keepalived';
import { askDaemon } from '../daemon/control.ts';

export interface PlanTools {
  readonly director: Pick<Director, 'service' | 'table' | 'connections'>;
  readonly controlPath: string;
  readonly write: (text: string) => void;
}

/** The daemon knows who is alive; without one, everybody counts as alive and foreign services are left alone. */
export async function plan(file: string, { director, controlPath, write }: PlanTools): Promise<void> {
  const answer = await askDaemon<{ commands: Command[]; verdict: string }>(controlPath, { op: 'plan', file });
  const { commands, verdict } = answer ?? planAlone(file, director);
  if (verdict === 'refused') throw new Error(`Cannot plan: ${file} is refused (ipvsd check ${file} says why)`);
  const counts = countConnections(director);
  for (const command of commands) write(`${describe(command, counts)}\n`);
  write(commands.length === 0 ? 'Nothing would change\n' : `${commands.length} changes; all else stays untouched\n`);
}

function planAlone(file: string, director: PlanTools['director']) {
  const { configuration, diagnostics } = loadConfigurationFile(file);
  const commands = configuration.virtualServers.flatMap((server) => commandsFor(new ServiceHealth(server), director));
  return { commands, verdict: verdictOf(diagnostics) };
}

type Counts = (service: ServiceId, server?: { address: string; port: number }) => number;

/** From the table's own figures: to walk every connection would take longer than the reload. */
function countConnections(director: PlanTools['director']): Counts {
  return (service, server) => {
    const servers = director.service(service)?.realServers ?? [];
    const counted = server ? servers.filter((other) => realServerKey(other) === realServerKey(server)) : servers;
    return counted.reduce(
      (sum, { activeConnections, inactiveConnections }) => sum + activeConnections + inactiveConnections,
      0,
    );
  };
}

function describe(command: Command, counts: Counts): string {
  switch (command.kind) {
    case 'addService':
      return `+ service ${serviceKey(command.service)} ${command.settings.scheduler}`;
    case 'editService':
      return `~ service ${serviceKey(command.service)} ${command.settings.scheduler} (${counts(command.service)} connections stay)`;
    case 'deleteService':
      return `- service ${serviceKey(command.service)} (${counts(command.service)} connections lose it)`;
    case 'addServer':
      return `+ real server ${realServerKey(command.server)} of ${serviceKey(command.service)}, weight ${command.settings.weight}`;
    case 'editServer': {
      const stay = counts(command.service, command.server);
      return `~ real server ${realServerKey(command.server)} of ${serviceKey(command.service)}, weight ${command.settings.weight} (${stay} connections stay)`;
    }
    case 'deleteServer':
      return `- real server ${realServerKey(command.server)} of ${serviceKey(command.service)} (${counts(command.service, command.server)} connections lose it)`;
    default:
      return `~ ${command.kind}`;
  }
}
