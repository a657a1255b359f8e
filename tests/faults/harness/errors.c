/* Stands between a node and its disk (LD_PRELOAD), and fails, tears or holds what errors.rs asks for.
 *
 * What that is stands in a file of 16 bytes, QUORATE_ERRORS, which both sides map or write, so that a look at it costs a node nothing.
 * Only files below QUORATE_ERRORS_IN are meant. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* As in errors.rs. */
enum { NOTHING, SYNC_ONCE, SYNC_ALWAYS, WRITE_ONCE, WRITE_ALWAYS, SHORT, TORN, HELD, READ_ONCE, NEVER };

static struct control {
  _Atomic uint32_t what;
  _Atomic uint32_t place; /* one of PLACES, from 1 on */
  _Atomic int32_t left;   /* operations that are let through first */
  _Atomic uint32_t done;  /* operations that were hit */
} nothing, *control = &nothing;

static const char *const PLACES[] = {"/log/", "/state", "/snapshots/"};
static const char *root = "";

__attribute__((constructor)) static void begin(void) {
  const char *path = getenv("QUORATE_ERRORS"), *in = getenv("QUORATE_ERRORS_IN");
  if (!path || !in) return;
  int fd = open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) abort();
  void *mapped = mmap(NULL, sizeof nothing, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) abort();
  close(fd);
  root = in;
  control = mapped;
}

/* Whether the file is one of those that are meant. What RocksDB tells people (LOG) is nobody's data, and in the log's next segment
 * (spare) there is none yet. */
static int is_meant(int fd) {
  char link[32], path[1024];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1);
  if (length < 0) return 0;
  path[length] = 0;
  size_t depth = strlen(root);
  if (strncmp(path, root, depth) != 0 || strstr(path + depth, "/LOG") || strstr(path + depth, "/log/spare")) return 0;
  uint32_t number = control->place;
  if (number < 1 || number > sizeof PLACES / sizeof *PLACES) abort();
  const char *place = PLACES[number - 1];
  return strncmp(path + depth, place, strlen(place)) == 0;
}

/* Whether an operation of one of two kinds is hit, which every one is from then on if the kind is `always`. */
static int is_hit(int fd, uint32_t once, uint32_t always) {
  uint32_t what = control->what;
  if (what == NOTHING || (what != once && what != always)) return 0;
  int saved = errno, meant = is_meant(fd);
  errno = saved;
  if (!meant) return 0;
  int32_t left = atomic_fetch_sub(&control->left, 1);
  if (what == always ? left > 0 : left != 0) return 0;
  if (what == always) control->left = 0;
  return 1;
}

static ssize_t failed(void) {
  control->done++;
  errno = EIO;
  return -1;
}

/* The function that this one stands in front of: looked up once, and by whoever comes meanwhile too, which does no harm. */
#define NEXT(name) ({ static _Atomic(void *) known; (__typeof__(&name))next(&known, #name); })
static void *next(_Atomic(void *) *known, const char *name) {
  void *found = atomic_load_explicit(known, memory_order_relaxed);
  if (found) return found;
  found = dlsym(RTLD_NEXT, name);
  if (!found) abort();
  atomic_store_explicit(known, found, memory_order_relaxed);
  return found;
}

/* Waits while syncs are held; whether the sync fails. */
static int is_sync_failed(int fd) {
  if (control->what == HELD && is_meant(fd)) {
    control->done++;
    while (control->what == HELD) usleep(1000);
  }
  return is_hit(fd, SYNC_ONCE, SYNC_ALWAYS);
}

int fsync(int fd) { return is_sync_failed(fd) ? (int)failed() : NEXT(fsync)(fd); }
int fdatasync(int fd) { return is_sync_failed(fd) ? (int)failed() : NEXT(fdatasync)(fd); }

/* Writes `length` bytes or, where that is asked for, half of them; of the torn one nobody hears. */
#define WRITE(fd, length, next)                              \
  if (is_hit(fd, WRITE_ONCE, WRITE_ALWAYS)) return failed(); \
  if (length > 1 && is_hit(fd, SHORT, NEVER)) {              \
    control->done++;                                         \
    length /= 2;                                             \
  }                                                          \
  if (is_hit(fd, TORN, NEVER)) {                             \
    length /= 2;                                             \
    if (length > 0 && next < 0) abort();                     \
    control->done++;                                         \
    kill(getpid(), SIGKILL);                                 \
  }                                                          \
  return next

ssize_t write(int fd, const void *from, size_t length) { WRITE(fd, length, NEXT(write)(fd, from, length)); }
ssize_t pwrite(int fd, const void *from, size_t length, off_t at) { WRITE(fd, length, NEXT(pwrite)(fd, from, length, at)); }
ssize_t pwrite64(int fd, const void *from, size_t length, off64_t at) { WRITE(fd, length, NEXT(pwrite64)(fd, from, length, at)); }

/* The same for several pieces: half of a write is half of the first of them. */
#define WRITE_PIECES(fd, next)                               \
  struct iovec half;                                         \
  if (length > 0) {                                          \
    half = *from;                                            \
    half.iov_len = (half.iov_len + 1) / 2;                   \
  }                                                          \
  if (is_hit(fd, WRITE_ONCE, WRITE_ALWAYS)) return failed(); \
  if (length > 0 && is_hit(fd, SHORT, NEVER)) {              \
    control->done++;                                         \
    from = &half, length = 1;                                \
  } else if (length > 0 && is_hit(fd, TORN, NEVER)) {        \
    from = &half, length = 1;                                \
    if (next < 0) abort();                                   \
    control->done++;                                         \
    kill(getpid(), SIGKILL);                                 \
  }                                                          \
  return next

ssize_t writev(int fd, const struct iovec *from, int length) { WRITE_PIECES(fd, NEXT(writev)(fd, from, length)); }
ssize_t pwritev(int fd, const struct iovec *from, int length, off_t at) { WRITE_PIECES(fd, NEXT(pwritev)(fd, from, length, at)); }
ssize_t pwritev64(int fd, const struct iovec *from, int length, off64_t at) { WRITE_PIECES(fd, NEXT(pwritev64)(fd, from, length, at)); }

#define READ(fd, next)                               \
  if (is_hit(fd, READ_ONCE, NEVER)) return failed(); \
  return next

ssize_t read(int fd, void *into, size_t length) { READ(fd, NEXT(read)(fd, into, length)); }
ssize_t pread(int fd, void *into, size_t length, off_t at) { READ(fd, NEXT(pread)(fd, into, length, at)); }
ssize_t pread64(int fd, void *into, size_t length, off64_t at) { READ(fd, NEXT(pread64)(fd, into, length, at)); }
