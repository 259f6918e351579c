// Twin of packages/bpf/examples/count.ts.
#include "kernel.h"

struct ipv4 { u8 start[9]; u8 protocol; u16 checksum; u32 source, destination; };
struct count { u64 packets, bytes; };
extern char map_counts;

SECTION int count(struct __sk_buff *skb) {
  if (skb->protocol != htons(0x0800)) return ACT_UNSPEC;
  void *data = (void *)(long)skb->data, *end = (void *)(long)skb->data_end;
  struct ipv4 *ip = data + 14;
  if ((void *)(ip + 1) > end) return ACT_UNSPEC;
  u32 key = ip->protocol;
  struct count *count = map_lookup(&map_counts, &key);
  if (!count) return ACT_UNSPEC;
  __sync_fetch_and_add(&count->packets, 1);
  __sync_fetch_and_add(&count->bytes, skb->len);
  return ACT_UNSPEC;
}
