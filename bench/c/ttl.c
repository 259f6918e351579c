// Twin of packages/bpf/examples/ttl.ts.
#include "kernel.h"

struct ipv4 { u8 start[8], hops, protocol; u16 checksum; };
struct ipv6 { u8 start[7], hops; };
enum { HOPS = 33 };

SECTION int ttl(struct __sk_buff *skb) {
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  if (skb->protocol == htons(0x0800)) {
    struct ipv4 *ip = data + 14;
    if ((void *)(ip + 1) > end) return ACT_UNSPEC;
    u8 old = ip->hops;
    ip->hops = HOPS;
    l3_csum_replace(skb, 14 + 10, old, HOPS, 2);
    return ACT_UNSPEC;
  }
  if (skb->protocol == htons(0x86dd)) {
    struct ipv6 *ip = data + 14;
    if ((void *)(ip + 1) > end) return ACT_UNSPEC;
    ip->hops = HOPS;
  }
  return ACT_UNSPEC;
}
