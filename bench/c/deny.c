// Twin of packages/bpf/examples/deny.ts.
#include "kernel.h"

struct ipv4 { u8 version_and_length, start[8], protocol, rest[10]; };
struct udp { u16 source, destination, length, checksum; };
extern char map_denied;

SECTION int deny(struct __sk_buff *skb) {
  if (skb->protocol != htons(0x0800)) return ACT_UNSPEC;
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct ipv4 *ip = data + 14;
  if ((void *)(ip + 1) > end || ip->protocol != 17) return ACT_UNSPEC;
  struct udp *udp = data + 14 + (ip->version_and_length & 15) * 4;
  if ((void *)(udp + 1) > end) return ACT_UNSPEC;
  u16 port = udp->destination;
  u64 *drops = map_lookup(&map_denied, &port);
  if (!drops) return ACT_UNSPEC;
  __sync_fetch_and_add(drops, 1);
  return ACT_SHOT;
}
