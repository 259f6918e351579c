/*
 * Lets the real keepalived run its checks on a kernel without ip_vs, for the tests that stand beside it. Without this it ends before its
 * first check. Preloaded into it: the socket options of ip_vs answer that all went well, and nothing is kept.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

/* The range of ip_vs among the options of SOL_IP. */
#define FIRST 1152
#define LAST 1183
#define GET_INFO 1153

static int of_ip_vs(int level, int name) { return level == IPPROTO_IP && name >= FIRST && name <= LAST; }

int getsockopt(int fd, int level, int name, void *value, socklen_t *length) {
  static int (*real)(int, int, int, void *, socklen_t *);
  if (!real) real = dlsym(RTLD_NEXT, "getsockopt");
  if (!of_ip_vs(level, name)) return real(fd, level, name, value, length);
  memset(value, 0, *length);
  if (name == GET_INFO) ((unsigned *)value)[0] = 0x10201; /* version 1.2.1 */
  return 0;
}

int setsockopt(int fd, int level, int name, const void *value, socklen_t length) {
  static int (*real)(int, int, int, const void *, socklen_t);
  if (!real) real = dlsym(RTLD_NEXT, "setsockopt");
  return of_ip_vs(level, name) ? 0 : real(fd, level, name, value, length);
}
