// What a program needs to know of the kernel. Helpers are called by their number (include/uapi/linux/bpf.h).
#pragma once
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef int i32;
typedef long long i64;

#define INLINE static inline __attribute__((always_inline))
#define SECTION __attribute__((section("tc"), used))
#define NULL ((void *)0)
#define htons(x) ((u16)__builtin_bswap16(x))
#define offsetof(type, field) __builtin_offsetof(type, field)

struct __sk_buff {
  u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority, ingress_ifindex, ifindex;
  u32 tc_index, cb[5], hash, tc_classid, data, data_end;
};

static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static i64 (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static i64 (*map_delete)(void *map, const void *key) = (void *)3;
static i64 (*l3_csum_replace)(void *skb, u32 offset, u64 from, u64 to, u64 flags) = (void *)10;
static i64 (*l4_csum_replace)(void *skb, u32 offset, u64 from, u64 to, u64 flags) = (void *)11;
static i64 (*fib_lookup)(void *ctx, void *params, i32 size, u32 flags) = (void *)69;
static i64 (*map_push)(void *map, const void *value, u64 flags) = (void *)87;
static i64 (*map_pop)(void *map, void *value) = (void *)88;
static i64 (*redirect_neigh)(u32 ifindex, void *params, i32 size, u64 flags) = (void *)152;
static u64 (*ktime_coarse_ns)(void) = (void *)160;
static i64 (*loop)(u32 rounds, void *callback, void *context, u64 flags) = (void *)181;

enum { ACT_UNSPEC = -1, ACT_OK = 0, ACT_SHOT = 2 };
