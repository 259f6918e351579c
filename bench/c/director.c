// Twin of packages/ipvs/src/programs/tc.ts: TCP by NAT for both families, as kernel TypeScript has it, function by function.
// Works on the same maps. Written to be measured beside ours and used nowhere else; layout.h is made from our structs.
#include "kernel.h"
#include "layout.h"

extern char map_flows4, map_flows6, map_connections, map_free_slots, map_services, map_service_states, map_servers;
extern char map_members, map_traffic, map_reasons;
extern struct settings value_settings;
extern struct population value_population;

enum { AF_INET = 2, AF_INET6 = 10, TCP = 6, ETHERNET = 14, REQUEST = 0, REPLY = 1 };
enum { ANY = 0, NO_EXIST = 1, PSEUDO_HEADER = 0x10 };
enum { ESTABLISHED = 1, TIME_WAIT = 5, CLOSED = 6 };
enum { SYN = 0, FIN = 1, ACK = 2, RST = 3, NOTHING = 4 };
enum { NO_OUTPUT = 0x80, INACTIVE = 0x100, AVAILABLE = 1, OVERLOAD = 2 };
#define NONE 0xffffffffu

union tuple {
  struct tuple4 v4;
  struct tuple6 v6;
};

INLINE int because(u32 reason) {
  struct count *count = map_lookup(&map_reasons, &reason);
  if (count) count->packets++;
  return reason < FIRST_DROP ? ACT_OK : ACT_SHOT;
}

INLINE struct real_server *server_at(u32 number) { return map_lookup(&map_servers, &number); }

INLINE u32 now_ticks(void) {
  u32 fixed = value_settings.clock;
  return fixed ? fixed : (u32)(ktime_coarse_ns() >> 20);
}

// Families --------------------------------------------------------------------------------------------------------

INLINE void widen(int v6, struct address6 *to, const void *from) {
  const u32 *words = from;
  to->a = words[0];
  to->b = v6 ? words[1] : 0;
  to->c = v6 ? words[2] : 0;
  to->d = v6 ? words[3] : 0;
}

INLINE void narrow(int v6, void *to, const struct address6 *from) {
  u32 *words = to;
  words[0] = from->a;
  if (!v6) return;
  words[1] = from->b;
  words[2] = from->c;
  words[3] = from->d;
}

INLINE void fill_tuple(int v6, union tuple *t, const struct address6 *source, const struct address6 *destination, u16 from, u16 to, u8 protocol) {
  __builtin_memset(t, 0, v6 ? sizeof(t->v6) : sizeof(t->v4));
  if (v6) {
    narrow(1, &t->v6.source, source);
    narrow(1, &t->v6.destination, destination);
    t->v6.sourcePort = from, t->v6.destinationPort = to, t->v6.protocol = protocol;
  } else {
    narrow(0, &t->v4.source, source);
    narrow(0, &t->v4.destination, destination);
    t->v4.sourcePort = from, t->v4.destinationPort = to, t->v4.protocol = protocol;
  }
}

#define FLOWS(v6) ((v6) ? (void *)&map_flows6 : (void *)&map_flows4)

INLINE u32 fold32(u64 sum) {
  u64 once = (sum & NONE) + (sum >> 32);
  return (u32)((once & NONE) + (once >> 32));
}

INLINE u64 word_difference(u32 old, u32 next) { return (u64)next + (NONE - old); }

INLINE u32 difference(int v6, const void *old, const struct address6 *next) {
  const u32 *words = old;
  u64 sum = word_difference(words[0], next->a);
  if (v6) sum += word_difference(words[1], next->b) + word_difference(words[2], next->c) + word_difference(words[3], next->d);
  return fold32(sum);
}

INLINE u16 patch(u16 checksum, u32 diff) {
  u32 sum = 0xffff - checksum + (diff & 0xffff) + (diff >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return 0xffff - (sum & 0xffff);
}

// Connections -----------------------------------------------------------------------------------------------------

INLINE int is_active(u32 state) { return (ACTIVE_MASK >> (state & 15)) & 1; }

INLINE void return_slot(u32 index) { map_push(&map_free_slots, &index, 0); }

INLINE u32 take_slot(void) {
  u32 slot = 0;
  if (map_pop(&map_free_slots, &slot) == 0) return slot;
  if (value_population.highest >= value_settings.maxConnections) return NONE;
  u32 fresh = __sync_fetch_and_add(&value_population.highest, 1);
  return fresh < value_settings.maxConnections ? fresh : NONE;
}

INLINE int enter(int v6, struct connection *c, u32 index) {
  union tuple key;
  struct flow flow = {.connection = index, .direction = REQUEST};
  fill_tuple(v6, &key, &c->client, &c->virtual, c->clientPort, c->virtualPort, c->protocol);
  if (map_update(FLOWS(v6), &key, &flow, NO_EXIST)) return 0;
  if (!(c->flags & NO_OUTPUT)) {
    fill_tuple(v6, &key, &c->real, &c->client, c->realPort, c->clientPort, c->protocol);
    flow.direction = REPLY;
    map_update(FLOWS(v6), &key, &flow, ANY);
  }
  __sync_fetch_and_add(&value_population.alive, 1);
  return 1;
}

INLINE void leave(int v6, struct connection *c, u32 index) {
  union tuple key;
  fill_tuple(v6, &key, &c->client, &c->virtual, c->clientPort, c->virtualPort, c->protocol);
  map_delete(FLOWS(v6), &key);
  if (c->flags & NO_OUTPUT) return;
  fill_tuple(v6, &key, &c->real, &c->client, c->realPort, c->clientPort, c->protocol);
  struct flow *flow = map_lookup(FLOWS(v6), &key);
  if (flow && flow->connection == index) map_delete(FLOWS(v6), &key);
}

INLINE void bind_server(struct real_server *s) {
  __sync_fetch_and_add(&s->inactive, 1);
  if (s->upper && (u64)s->active + s->inactive >= s->upper) s->flags |= OVERLOAD;
}

INLINE void unbind_server(struct real_server *s, int active) {
  if (active) __sync_fetch_and_add(&s->active, -1);
  else __sync_fetch_and_add(&s->inactive, -1);
  u64 total = (u64)s->active + s->inactive;
  if (s->lower ? total < s->lower : !s->upper || total * 4 < (u64)s->upper * 3) s->flags &= ~OVERLOAD;
}

INLINE void change_state(struct connection *c, struct real_server *s, u32 from, u32 to) {
  if (__sync_val_compare_and_swap(&c->state, from, to) != from) return;
  int was = is_active(from), is = is_active(to);
  if (was == is) return;
  __sync_fetch_and_add(&s->active, is ? 1 : -1);
  __sync_fetch_and_add(&s->inactive, is ? -1 : 1);
}

INLINE void expire(struct connection *c, u32 index) {
  if (__sync_val_compare_and_swap(&c->alive, 1, 0) != 1) return;
  if (c->family == AF_INET) leave(0, c, index);
  else leave(1, c, index);
  struct real_server *s = server_at(c->server);
  if (s) unbind_server(s, is_active(c->state));
  __sync_fetch_and_add(&value_population.alive, -1);
  return_slot(index);
}

INLINE struct connection *connection_at(u32 index, u32 now) {
  struct connection *c = map_lookup(&map_connections, &index);
  if (!c || c->alive != 1) return NULL;
  if (now - c->lastSeen < c->timeout) return c;
  expire(c, index);
  return NULL;
}

INLINE void rearm(struct connection *c, u32 now) {
  u32 timeout = value_settings.tcpTimeouts[c->state & 15];
  if (c->timeout != timeout) c->timeout = timeout;
  if (c->lastSeen != now) c->lastSeen = now;
}

// TCP -------------------------------------------------------------------------------------------------------------

INLINE u32 tcp_event(u8 flags) {
  if (flags & 4) return RST;
  if (flags & 2) return SYN;
  if (flags & 1) return FIN;
  if (flags & 16) return ACK;
  return NOTHING;
}

#define STEP(row, state) ((u32)((row) >> (((state) & 15) * 4)) & 15)
#define FOLLOW(rows, state, event)                          \
  ((event) == SYN   ? STEP(rows##_SYN, state)               \
   : (event) == FIN ? STEP(rows##_FIN, state)               \
   : (event) == ACK ? STEP(rows##_ACK, state)               \
   : (event) == RST ? STEP(rows##_RST, state)               \
                    : CLOSED)

// Forwarding ------------------------------------------------------------------------------------------------------

INLINE int find_route(struct __sk_buff *skb, u32 family, struct route *route, const struct address6 *to, u32 now) {
  if (route->ifindex && now - route->at < ROUTE_AGE) return 1;
  struct fib_lookup q = {.family = family, .ifindex = skb->ingress_ifindex};
  q.destination[0] = to->a, q.destination[1] = to->b, q.destination[2] = to->c, q.destination[3] = to->d;
  i64 answer = fib_lookup(skb, &q, sizeof(q), 0);
  if (answer != 0 && answer != 7) {
    route->ifindex = 0;
    return 0;
  }
  route->hop.a = q.destination[0], route->hop.b = q.destination[1];
  route->hop.c = q.destination[2], route->hop.d = q.destination[3];
  route->ifindex = q.ifindex;
  route->at = now;
  return 1;
}

INLINE int send_to(u32 family, struct route *route) {
  struct redir_neigh next = {.family = family};
  next.address[0] = route->hop.a, next.address[1] = route->hop.b;
  next.address[2] = route->hop.c, next.address[3] = route->hop.d;
  return redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

INLINE void rewrite(struct __sk_buff *skb, int v6, void *header, u16 *port, void *address, const struct address6 *to, u16 to_port, u32 checksum) {
  u16 old_port = *port;
  u32 diff = difference(v6, address, to);
  narrow(v6, address, to);
  *port = to_port;
  if (v6) {
    ((struct ipv6 *)header)->timeToLive--;
  } else {
    struct ipv4 *ip = header;
    ip->timeToLive--;
    ip->checksum = patch(ip->checksum, fold32((u64)diff + 0xfffe));
  }
  l4_csum_replace(skb, checksum, 0, diff, PSEUDO_HEADER);
  if (old_port != to_port) l4_csum_replace(skb, checksum, old_port, to_port, 2);
}

INLINE void *addresses(int v6, void *ip, int destination) {
  if (v6) return destination ? (void *)&((struct ipv6 *)ip)->destination : (void *)&((struct ipv6 *)ip)->source;
  return destination ? (void *)&((struct ipv4 *)ip)->destination : (void *)&((struct ipv4 *)ip)->source;
}

INLINE u8 hops(int v6, void *ip) { return v6 ? ((struct ipv6 *)ip)->timeToLive : ((struct ipv4 *)ip)->timeToLive; }

INLINE int request(struct __sk_buff *skb, int v6, void *ip, struct tcp *tcp, u32 transport, struct connection *c, u32 event, u32 now) {
  u32 family = v6 ? AF_INET6 : AF_INET, number = c->server;
  struct real_server *s = server_at(number);
  if (!s) return because(REASON_CORRUPT);
  if (!(s->flags & AVAILABLE)) return because(REASON_SERVERGONE);
  if (hops(v6, ip) <= 1) return because(REASON_TIMETOLIVE);
  if (!find_route(skb, family, &s->route, &s->address, now)) return because(REASON_NOROUTE);
  struct traffic *t = map_lookup(&map_traffic, &number);
  if (t) t->inPackets++, t->inBytes += skb->len - ETHERNET;
  u32 state = c->state;
  if (event != ACK || state != ESTABLISHED) {
    u32 next = c->flags & NO_OUTPUT ? FOLLOW(INPUTONLY, state, event) : FOLLOW(INPUT, state, event);
    change_state(c, s, state, next);
  }
  rearm(c, now);
  rewrite(skb, v6, ip, &tcp->destinationPort, addresses(v6, ip, 1), &c->real, c->realPort, transport + offsetof(struct tcp, checksum));
  return send_to(family, &s->route);
}

INLINE int reply(struct __sk_buff *skb, int v6, void *ip, struct tcp *tcp, u32 transport, struct connection *c, u32 event, u32 now) {
  u32 family = v6 ? AF_INET6 : AF_INET, number = c->server;
  struct real_server *s = server_at(number);
  if (!s) return because(REASON_CORRUPT);
  if (hops(v6, ip) <= 1) return because(REASON_TIMETOLIVE);
  if (!find_route(skb, family, &c->route, &c->client, now)) return because(REASON_NOROUTE);
  if (s->flags & AVAILABLE) {
    struct traffic *t = map_lookup(&map_traffic, &number);
    if (t) t->outPackets++, t->outBytes += skb->len - ETHERNET;
  }
  u32 state = c->state;
  if (event != ACK || state != ESTABLISHED) change_state(c, s, state, FOLLOW(OUTPUT, state, event));
  rearm(c, now);
  rewrite(skb, v6, ip, &tcp->sourcePort, addresses(v6, ip, 0), &c->virtual, c->virtualPort, transport + offsetof(struct tcp, checksum));
  return send_to(family, &c->route);
}

// Scheduling ------------------------------------------------------------------------------------------------------

struct search {
  struct service *service;
  struct service_state *state;
  u32 start, count, chosen, least, weight, place, bar, began, stop, restarted, last_pass;
};

SECTION static i64 rr_step(u32 i, struct search *s);
SECTION static i64 wrr_step(u32 i, struct search *s);
SECTION static i64 lc_step(u32 i, struct search *s);
SECTION static i64 wlc_step(u32 i, struct search *s);

INLINE u32 member_number(struct service *service, u32 place) {
  u32 at = service->first + place;
  u32 *member = map_lookup(&map_members, &at);
  return member ? *member : NONE;
}

INLINE struct real_server *member_at(struct service *service, u32 place) {
  u32 at = service->first + place;
  u32 *member = map_lookup(&map_members, &at);
  return member ? server_at(*member) : NULL;
}

INLINE u32 choose(struct service *service) {
  u32 index = service->index;
  struct service_state *state = map_lookup(&map_service_states, &index);
  if (!state) return NONE;
  struct search s = {.service = service, .state = state, .count = service->count, .chosen = NONE};
  if (service->scheduler == 1) {
    s.start = state->cursor;
    loop(s.count, rr_step, &s, 0);
  } else if (service->scheduler == 2) {
    if (!state->maximum) return NONE;
    s.began = s.place = state->cursor;
    s.bar = state->current;
    loop(1 << 23, wrr_step, &s, 0);
    state->current = s.bar;
    if (s.chosen != NONE) state->cursor = s.place;
  } else if (service->scheduler == 3) {
    loop(s.count, lc_step, &s, 0);
  } else if (service->scheduler == 4) {
    loop(s.count, wlc_step, &s, 0);
  }
  return s.chosen;
}

// New connections -------------------------------------------------------------------------------------------------

struct opening {
  struct address6 client, virtual;
  u16 client_port, virtual_port;
};

INLINE struct service *find_service(u32 family, u32 mark, const struct opening *o) {
  struct service_key key = {.family = family};
  if (mark) {
    key.mark = mark;
    struct service *marked = map_lookup(&map_services, &key);
    if (marked) return marked;
    key.mark = 0;
  }
  key.address = o->virtual;
  key.protocol = TCP;
  key.port = o->virtual_port;
  struct service *exact = map_lookup(&map_services, &key);
  if (exact) return exact;
  key.port = 0;
  return map_lookup(&map_services, &key);
}

INLINE u32 open_connection(int v6, const struct opening *o, u32 chosen, u32 mark, u32 now) {
  struct real_server *s = server_at(chosen);
  if (!s) return NONE;
  u32 index = take_slot();
  if (index == NONE) return NONE;
  struct connection *c = map_lookup(&map_connections, &index);
  if (!c) return NONE;
  c->client = o->client;
  c->virtual = o->virtual;
  c->real = s->address;
  c->clientPort = o->client_port;
  c->virtualPort = o->virtual_port;
  c->realPort = s->port ? s->port : o->virtual_port;
  c->protocol = TCP;
  c->family = v6 ? AF_INET6 : AF_INET;
  c->flags = s->method == 0 ? INACTIVE : INACTIVE | NO_OUTPUT;
  c->state = 0;
  c->timeout = 2861;
  c->lastSeen = now;
  c->server = chosen;
  c->inPackets = 0;
  c->mark = mark;
  c->controller = 0;
  c->controls = 0;
  c->route.ifindex = 0;
  c->alive = 1;
  if (!enter(v6, c, index)) {
    c->alive = 0;
    return_slot(index);
    return NONE;
  }
  bind_server(s);
  struct traffic *t = map_lookup(&map_traffic, &chosen);
  if (t) t->connections++;
  return index;
}

INLINE int journey(struct __sk_buff *skb, int v6) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  void *ip = data + ETHERNET;
  u32 transport;
  if (v6) {
    struct ipv6 *header = ip;
    if ((void *)(header + 1) > end) return because(REASON_TRUNCATED);
    if (header->protocol != TCP) return ACT_OK;
    if ((header->versionAndClass & 0xf0) != 0x60) return because(REASON_MALFORMED);
    transport = ETHERNET + 40;
  } else {
    struct ipv4 *header = ip;
    if ((void *)(header + 1) > end) return because(REASON_TRUNCATED);
    if (header->protocol != TCP) return ACT_OK;
    if (header->versionAndLength < 0x45 || header->versionAndLength > 0x4f) return because(REASON_MALFORMED);
    if (header->fragment & htons(0x3fff)) return because(REASON_FRAGMENT);
    transport = ETHERNET + (header->versionAndLength & 15) * 4;
  }
  struct tcp *tcp = data + transport;
  if ((void *)(tcp + 1) > end) return because(REASON_TRUNCATED);

  u32 now = now_ticks(), event = tcp_event(tcp->flags);
  struct opening o;
  widen(v6, &o.client, addresses(v6, ip, 0));
  widen(v6, &o.virtual, addresses(v6, ip, 1));
  o.client_port = tcp->sourcePort, o.virtual_port = tcp->destinationPort;
  union tuple key;
  fill_tuple(v6, &key, &o.client, &o.virtual, o.client_port, o.virtual_port, TCP);
  struct flow *flow = map_lookup(FLOWS(v6), &key);
  if (flow) {
    u32 index = flow->connection;
    struct connection *c = connection_at(index, now);
    if (c) {
      if (flow->direction != REQUEST) return reply(skb, v6, ip, tcp, transport, c, event, now);
      int finished = c->state == TIME_WAIT || c->state == CLOSED;
      if (!(event == SYN && finished && !c->controller && value_settings.connectionReuse))
        return request(skb, v6, ip, tcp, transport, c, event, now);
      expire(c, index);
    }
  }
  struct service *service = find_service(v6 ? AF_INET6 : AF_INET, skb->mark, &o);
  if (!service) return ACT_OK;
  if (event != SYN) return because(REASON_NOTFIRST);
  u32 chosen = choose(service);
  if (chosen == NONE) return because(REASON_NOSERVER);
  u32 index = open_connection(v6, &o, chosen, skb->mark, now);
  if (index == NONE) return because(REASON_TABLEFULL);
  struct connection *c = map_lookup(&map_connections, &index);
  if (!c) return because(REASON_CORRUPT);
  return request(skb, v6, ip, tcp, transport, c, event, now);
}

SECTION int director(struct __sk_buff *skb) {
  if (skb->pkt_type != 0) return ACT_OK;
  if (skb->protocol == htons(0x0800)) return journey(skb, 0);
  if (skb->protocol == htons(0x86dd)) return journey(skb, 1);
  return ACT_OK;
}

INLINE int is_eligible(struct real_server *r) { return !(r->flags & OVERLOAD) && r->weight > 0; }
INLINE u32 overhead(struct real_server *r) { return r->active * 256 + r->inactive; }

static i64 rr_step(u32 i, struct search *s) {
  u32 ahead = s->start + i, place = ahead >= s->count ? ahead - s->count : ahead;
  struct real_server *r = member_at(s->service, place);
  if (!r || !is_eligible(r)) return 0;
  s->chosen = member_number(s->service, place);
  s->state->cursor = place + 1;
  return 1;
}

static i64 wrr_step(u32 i, struct search *s) {
  if (s->place < s->count) {
    struct real_server *r = member_at(s->service, s->place);
    if (!r) return 1;
    s->place++;
    if (!(r->flags & OVERLOAD) && r->weight >= s->bar) {
      s->chosen = member_number(s->service, s->place - 1);
      return 1;
    }
    return s->place == s->stop;
  }
  s->place = 0;
  if (s->bar <= s->state->divisor) {
    s->bar = s->state->maximum;
    if (s->last_pass || !s->began) return 1;
    s->restarted = 1;
  } else {
    s->bar -= s->state->divisor;
  }
  s->last_pass = s->bar <= s->state->divisor;
  if (s->last_pass && s->restarted) s->stop = s->began;
  return 0;
}

static i64 lc_step(u32 i, struct search *s) {
  struct real_server *r = member_at(s->service, i);
  if (!r || !is_eligible(r)) return 0;
  u32 load = overhead(r);
  if (s->chosen == NONE || load < s->least) {
    s->least = load;
    s->chosen = member_number(s->service, i);
  }
  return 0;
}

static i64 wlc_step(u32 i, struct search *s) {
  struct real_server *r = member_at(s->service, i);
  if (!r || !is_eligible(r)) return 0;
  u32 load = overhead(r);
  if (s->chosen == NONE || (u64)load * s->weight < (u64)s->least * r->weight) {
    s->least = load;
    s->weight = r->weight;
    s->chosen = member_number(s->service, i);
  }
  return 0;
}
