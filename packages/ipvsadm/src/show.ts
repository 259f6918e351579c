/** The commands that only show: `-L` in all its forms, `-S`, `-G`. */
import { type Address, type Director, DirectorError, type SyncDaemon, type VirtualService } from '@ipvsd/director';
import { serviceId } from './change.ts';
import { formatConnections } from './connections-listing.ts';
import type { Entry } from './entry.ts';
import type { Io } from './io.ts';
import { type Label, namedLabel, numericLabel } from './labels.ts';
import { formatListing, versionLine } from './listing.ts';

export async function show(entry: Entry, director: Director, io: Io): Promise<void> {
  const { command, seen } = entry;
  if (command.name === 'save') return save(entry, director, io);
  if (command.name === 'get-laddr') return showLocalAddresses(entry, director, io);
  if (!seen.has('watch')) return list(entry, director, io);
  do {
    await io.stdout.write('\x1b[H\x1b[2J');
    await list(entry, director, io);
  } while (await (io.sleep?.(entry.watchSeconds * 1000) ?? false));
}

async function list(entry: Entry, director: Director, io: Io): Promise<void> {
  const { seen } = entry;
  if (seen.has('json')) return listJson(entry, director, io);
  if (seen.has('connection')) {
    const options = { numeric: seen.has('numeric'), persistence: seen.has('persistent-conn'), names: io.names };
    for await (const text of formatConnections(director.connections(), options)) await io.stdout.write(text);
  } else if (seen.has('service-address')) {
    await io.stdout.write(await formatServices([find(entry, director)], entry, io));
  } else if (seen.has('timeout')) {
    const { tcp, tcpFin, udp } = director.timeouts();
    await io.stdout.write(`Timeout (tcp tcpfin udp): ${tcp} ${tcpFin} ${udp}\n`);
  } else if (seen.has('daemon')) {
    await io.stdout.write(director.daemons().map(formatDaemon).join(''));
  } else {
    const listing = await formatServices([...director.table().services.values()], entry, io);
    await io.stdout.write(versionLine(director.connectionTableSize) + listing);
  }
}

async function formatServices(services: readonly VirtualService[], { seen }: Entry, io: Io): Promise<string> {
  return formatListing(services, { label: await labelFor(services, seen.has('numeric'), io), shown: seen });
}

function labelFor(services: readonly VirtualService[], numeric: boolean, io: Io): Label | Promise<Label> {
  return numeric ? numericLabel : namedLabel(io.names, services.flatMap(addressesOf));
}

function addressesOf({ id, realServers }: VirtualService): Address[] {
  return [...(id.kind === 'address' ? [id.address] : []), ...realServers.map(({ address }) => address)];
}

function find(entry: Entry, director: Director): VirtualService {
  const service = director.service(serviceId(entry));
  if (!service) throw new DirectorError('ESRCH', 'Cannot list the virtual service: it is not there');
  return service;
}

function formatDaemon({ role, interfaceName, syncId, maximumLength, group, port, ttl }: SyncDaemon): string {
  const settings = `mcast=${interfaceName}, syncid=${syncId}, maxlen=${maximumLength}, group=${group}`;
  return `${role} sync daemon (${settings}, port=${port}, ttl=${ttl})\n`;
}

async function save({ seen }: Entry, director: Director, io: Io): Promise<void> {
  const { formatSave } = await import('./save.ts');
  const services = [...director.table().services.values()];
  const label = await labelFor(services, seen.has('numeric'), io);
  const complete = seen.has('complete');
  const { tcp, tcpFin, udp } = director.timeouts();
  await io.stdout.write(
    (complete ? `--set ${tcp} ${tcpFin} ${udp}\n` : '') + formatSave(services, { label, complete }),
  );
}

async function listJson(entry: Entry, director: Director, io: Io): Promise<void> {
  const json = await import('./json.ts');
  const { seen } = entry;
  if (seen.has('connection')) {
    for (const text of json.connectionsJson(director.connections())) await io.stdout.write(text);
  } else if (seen.has('service-address')) {
    await io.stdout.write(json.serviceJson(find(entry, director)));
  } else if (seen.has('timeout')) {
    await io.stdout.write(json.toJson(director.timeouts()));
  } else if (seen.has('daemon')) {
    await io.stdout.write(json.toJson(director.daemons()));
  } else {
    await io.stdout.write(json.tableJson(director));
  }
}

async function showLocalAddresses(entry: Entry, director: Director, io: Io): Promise<void> {
  const one = entry.seen.has('service-address');
  const services = one ? [find(entry, director)] : [...director.table().services.values()];
  if (entry.seen.has('json')) {
    const { localAddressesJson } = await import('./json.ts');
    return io.stdout.write(localAddressesJson(services));
  }
  let text = '';
  for (const service of services) {
    if (one || service.localAddresses.length > 0) {
      const [, , line] = formatListing([{ ...service, realServers: [] }], plainNumeric).split('\n');
      text += `${line}\n${service.localAddresses.map((address) => `  -> ${address}\n`).join('')}`;
    }
  }
  await io.stdout.write(text);
}

const plainNumeric = { label: numericLabel, shown: new Set<never>() };
