/* Every call that changes a file below one folder, seen before it happens: counted, logged, refused, or the last
 * that the process ever makes.  Loaded with LD_PRELOAD into a real process.
 *
 * Rule of this file: it calls the kernel itself, so it never meets itself; and what it does not see, strace does
 * (tests/fire/test_kills.py holds the two against each other).
 *
 * Control, from the environment at start or by ctypes in a process that was started with it:
 *   SHIM_FOLDER  shim_folder(path)                 the folder, absolute and without symbolic links; "" for none
 *   SHIM_LOG     shim_log(path)                    append to this file, which lies outside of the folder; "" to stop
 *   SHIM_SHARED  shim_shared(path)                 a file: several processes count on one number, its first 8 bytes
 *   SHIM_MODE=count|before|after|half|error, SHIM_AT, SHIM_ERRNO, SHIM_EVERY, SHIM_ONLY, SHIM_GROUP=1
 *                shim_arm(mode, at, errno, every, only): 0 count, 1 SIGKILL before call `at`, 2 after it, 3 after half
 *                of what it would write, 4 answer `errno` at call `at` (every 0: once, -1: from there on, n: at
 *                `at`, `at + n`, …). `only`: bits 1 << op of the calls that count, 0 for all that change something.
 *                Arming begins to count at nought. SHIM_GROUP: every process that shares the number dies, not one.
 *   shim_calls() how many counted calls there were; shim_mark(bytes, length) a line in the log for the reader.
 *
 * THE LOG is records one after the other, each written by one write() to a file opened with O_APPEND. In one process
 * the order is that in which things happened: call and record happen under one lock. All numbers little-endian:
 *
 *   u32 size     of the whole record
 *   u8  op       see enum op
 *   u8  flags    1: refused by us with an injected error; 2: half of it was done and the process killed
 *   u16 path     bytes of the path
 *   u16 second   bytes of the second path
 *   u16 call     see enum call: which function of the C library it was
 *   u32 pid
 *   u32 tid
 *   u64 number   of this call since arming, from 1; 0: not counted (noted only)
 *   i64 result   what the call answered, or -errno
 *   i64 offset   write: where in the file (also for O_APPEND); truncate: the new length; allocate, sync_range: offset;
 *                create: 1 if the name was not there before, 0 if it was
 *   i64 length   write: bytes asked for; allocate, sync_range, mmap: length; create and open: the flags of open();
 *                allocate: see mode
 *   u64 inode    of the file written, synced, created or truncated; 0 if not known
 *   u32 mode     create and mkdir: the mode; allocate: the mode of fallocate(); rename: the flags of renameat2()
 *   u32 data     bytes of data
 *   path         relative to the folder, "" for the folder itself; absolute when it lies outside of it (the far side
 *                of a rename or link). A file that has been unlinked keeps its path with " (deleted)" at its end
 *   second       rename, link: the new name; symlink: what it says
 *   data         write: the `result` bytes that were written; mark: the text
 *
 * tests/fire/shim.py reads it. mmap(MAP_SHARED, PROT_WRITE) is noted and not counted: what is stored into such a
 * mapping makes no call. Only SQLite's -shm may appear there, which is made anew after any crash.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum op { WRITE = 1, FSYNC, FDATASYNC, SYNC_RANGE, RENAME, LINK, SYMLINK, UNLINK, RMDIR, MKDIR, CREATE, TRUNCATE,
          ALLOCATE, MMAP, OPEN, MARK };
enum call { C_MARK, C_WRITE, C_PWRITE, C_WRITEV, C_PWRITEV, C_COPY_FILE_RANGE, C_SENDFILE, C_FSYNC, C_FDATASYNC,
            C_SYNC_FILE_RANGE, C_RENAME, C_LINK, C_SYMLINK, C_UNLINK, C_RMDIR, C_MKDIR, C_OPEN, C_TRUNCATE, C_FTRUNCATE,
            C_FALLOCATE, C_MMAP };
enum mode { COUNT, KILL_BEFORE, KILL_AFTER, KILL_HALF, ERROR };
#define PIDS 500
#define ANY (~((1ull << MMAP) | (1ull << OPEN) | (1ull << MARK)))

struct head {
    uint32_t size; uint8_t op, flags; uint16_t path, second, call; uint32_t pid, tid; uint64_t number;
    int64_t result, offset, length; uint64_t inode; uint32_t mode, data;
} __attribute__((packed));

struct seen { struct head h; char path[PATH_MAX]; char second[PATH_MAX]; const struct iovec *data; int pieces; };

static char folder[PATH_MAX];
static size_t folder_length;
static int log_to = -1, mode, wrong, group;
static long at, every;
static uint64_t only = ANY, own;
static uint64_t *counter = &own;
static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;

static struct { uint64_t calls, many; int64_t pids[PIDS]; } *shared;

/* Among those that share the number, so that all of them can die together. */
static void enlist(void) {
    if (!shared) return;
    uint64_t place = __atomic_fetch_add(&shared->many, 1, __ATOMIC_SEQ_CST);
    if (place < PIDS) shared->pids[place] = getpid();
}

static void child(void) { pthread_mutex_init(&order, NULL); enlist(); }

/* ---- control ---- */

void shim_folder(const char *path) {
    snprintf(folder, sizeof folder, "%s", path ? path : "");
    folder_length = strlen(folder);
    while (folder_length > 1 && folder[folder_length - 1] == '/') folder[--folder_length] = 0;
}

int shim_log(const char *path) {
    if (log_to >= 0) syscall(SYS_close, log_to);
    log_to = -1;
    if (!path || !*path) return 0;
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return -1;
    /* Far from the numbers that a test of descriptors might care for. */
    log_to = fcntl(fd, F_DUPFD_CLOEXEC, 200);
    if (log_to < 0) log_to = fd; else syscall(SYS_close, fd);
    return 0;
}

int shim_shared(const char *path) {
    int fd = syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof *shared) < 0) return -1;
    void *there = (void *)syscall(SYS_mmap, NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    syscall(SYS_close, fd);
    if (there == MAP_FAILED) return -1;
    shared = there;
    counter = &shared->calls;
    enlist();
    return 0;
}

void shim_arm(int how, long number, int error, long each, uint64_t which) {
    mode = how; at = number; wrong = error; every = each; only = which ? which : ANY;
    if (counter == &own) own = 0;
}

uint64_t shim_calls(void) { return __atomic_load_n(counter, __ATOMIC_SEQ_CST); }

static long number_of(const char *name) { const char *text = getenv(name); return text ? strtol(text, NULL, 0) : 0; }

__attribute__((constructor)) static void begin(void) {
    pthread_atfork(NULL, NULL, child);
    const char *text;
    if ((text = getenv("SHIM_FOLDER"))) shim_folder(text);
    if ((text = getenv("SHIM_LOG"))) shim_log(text);
    if ((text = getenv("SHIM_SHARED"))) shim_shared(text);
    group = number_of("SHIM_GROUP");
    if ((text = getenv("SHIM_MODE"))) {
        static const char *names[] = {"count", "before", "after", "half", "error"};
        for (int each = 0; each < 5; each++)
            if (!strcmp(text, names[each]))
                shim_arm(each, number_of("SHIM_AT"), number_of("SHIM_ERRNO"), number_of("SHIM_EVERY"),
                         number_of("SHIM_ONLY"));
    }
}

/* ---- where a path leads ---- */

/* "a/./b/../c" as text; links are not followed, the folder has none. */
static void tidy(char *path) {
    char *to = path, *from = path;
    while (*from) {
        while (*from == '/') from++;
        if (!*from) break;
        char *end = strchr(from, '/');
        size_t length = end ? (size_t)(end - from) : strlen(from);
        if (length == 2 && from[0] == '.' && from[1] == '.') {
            while (to > path && *--to != '/') {}
        } else if (!(length == 1 && from[0] == '.')) {
            *to++ = '/';
            memmove(to, from, length);
            to += length;
        }
        from += length;
    }
    if (to == path) *to++ = '/';
    *to = 0;
}

static int of_fd(int fd, char *path) {
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return 1;
}

static int of_path(int dir, const char *given, char *path) {
    if (!given) return 0;
    if (given[0] == '/') {
        snprintf(path, PATH_MAX, "%s", given);
    } else {
        if (dir == AT_FDCWD) { if (syscall(SYS_getcwd, path, PATH_MAX) < 0) return 0; }
        else if (!of_fd(dir, path)) return 0;
        size_t length = strlen(path);
        snprintf(path + length, PATH_MAX - length, "/%s", given);
    }
    tidy(path);
    return 1;
}

/* Whether it lies in the folder; then it is made relative. */
static int inside(char *path) {
    if (!folder_length || strncmp(path, folder, folder_length)) return 0;
    if (path[folder_length] && path[folder_length] != '/') return 0;
    size_t skip = folder_length + (path[folder_length] == '/');
    memmove(path, path + skip, strlen(path + skip) + 1);
    return 1;
}

/* ---- one call ---- */

/* A number may have been given to somebody else's process since: only one with our own environment is ours. */
static int is_ours(int64_t pid) {
    char name[40], said[1 << 16], wanted[PATH_MAX + 16];
    const char *path = getenv("SHIM_SHARED");
    if (!path) return 0;
    snprintf(name, sizeof name, "/proc/%lld/environ", (long long)pid);
    int fd = syscall(SYS_openat, AT_FDCWD, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t length = 0, more;
    while (length < (ssize_t)sizeof said && (more = syscall(SYS_read, fd, said + length, sizeof said - length)) > 0)
        length += more;
    syscall(SYS_close, fd);
    int size = snprintf(wanted, sizeof wanted, "SHIM_SHARED=%s", path) + 1;
    return memmem(said, length, wanted, size) != NULL;
}

static void die(void) {
    for (uint64_t each = 0; group && shared && each < shared->many && each < PIDS; each++)
        if (shared->pids[each] != getpid() && is_ours(shared->pids[each])) kill(shared->pids[each], SIGKILL);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Count it, and act if this is the one: 0 go on, 1 do half and die, -1 refuse with errno set. */
static int enter(struct seen *s) {
    if (log_to >= 0) pthread_mutex_lock(&order);
    if (!(only >> s->h.op & 1)) return 0;
    s->h.number = __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    long n = (long)s->h.number;
    if (mode == KILL_BEFORE && n == at) die();
    if (mode == KILL_HALF && n == at) return 1;
    if (mode == ERROR && (n == at || (n > at && (every < 0 || (every > 0 && (n - at) % every == 0))))) {
        s->h.flags |= 1;
        return -1;
    }
    return 0;
}

static void record(struct seen *s) {
    if (log_to < 0) return;
    struct iovec out[64];
    int n = 3;
    s->h.path = strlen(s->path);
    s->h.second = strlen(s->second);
    s->h.pid = getpid();
    s->h.tid = syscall(SYS_gettid);
    out[0] = (struct iovec){&s->h, sizeof s->h};
    out[1] = (struct iovec){s->path, s->h.path};
    out[2] = (struct iovec){s->second, s->h.second};
    int64_t left = s->h.op == WRITE && s->h.result < 0 ? 0 : s->h.op == MARK ? s->h.length : s->h.result;
    s->h.data = 0;
    for (int each = 0; each < s->pieces && left > 0 && n < 64; each++) {
        size_t part = s->data[each].iov_len < (size_t)left ? s->data[each].iov_len : (size_t)left;
        out[n++] = (struct iovec){s->data[each].iov_base, part};
        s->h.data += part;
        left -= part;
    }
    s->h.size = sizeof s->h + s->h.path + s->h.second + s->h.data;
    if (syscall(SYS_writev, log_to, out, n) != (long)s->h.size) abort();
}

static long leave(struct seen *s, long result) {
    int kept = errno;
    s->h.result = result < 0 ? -kept : result;
    record(s);
    if (mode == KILL_AFTER && s->h.number && (long)s->h.number == at) die();
    if (s->h.flags & 2) die();
    if (log_to >= 0) pthread_mutex_unlock(&order);
    errno = kept;
    return result;
}

static void inode_of(struct seen *s, int fd) {
    struct stat st;
    if (log_to >= 0 && fstat(fd, &st) == 0) s->h.inode = st.st_ino;
}

static int see_fd(struct seen *s, int op, int call, int fd) {
    if (!folder_length) return 0;
    memset(&s->h, 0, sizeof s->h);
    s->second[0] = 0; s->data = NULL; s->pieces = 0;
    s->h.op = op; s->h.call = call;
    if (!of_fd(fd, s->path) || !inside(s->path)) return 0;
    inode_of(s, fd);
    return 1;
}

static int see_path(struct seen *s, int op, int call, int dir, const char *path) {
    if (!folder_length) return 0;
    memset(&s->h, 0, sizeof s->h);
    s->second[0] = 0; s->data = NULL; s->pieces = 0;
    s->h.op = op; s->h.call = call;
    if (!of_path(dir, path, s->path)) return 0;
    return inside(s->path);
}

static int see_two(struct seen *s, int op, int call, int dir, const char *old, int other, const char *new) {
    int first = see_path(s, op, call, dir, old);
    int second = folder_length && of_path(other, new, s->second) && inside(s->second);
    return first || second;
}

/* Do it, or do not: `how` is what enter() said. */
#define GO(s, doing) ({ \
    int how_ = enter(&s); \
    long result_; \
    if (how_ < 0) { errno = wrong; result_ = -1; } \
    else if (how_ > 0) { s.h.flags |= 2; result_ = (doing); } \
    else result_ = (doing); \
    leave(&s, result_); })

static long write_some(struct seen *s, int fd, const struct iovec *iov, int count, off_t offset, int positioned) {
    int64_t all = 0;
    for (int each = 0; each < count; each++) all += iov[each].iov_len;
    s->h.length = all; s->data = iov; s->pieces = count;
    int how = enter(s);
    long result;
    struct iovec half[1];
    if (how < 0) { errno = wrong; return leave(s, -1); }
    if (how > 0) {
        s->h.flags |= 2;
        half[0] = iov[0];
        half[0].iov_len = half[0].iov_len / 2;
        iov = half; count = 1;
        if (!half[0].iov_len) die();
    }
    if (positioned) result = syscall(SYS_pwritev, fd, iov, count, (long)offset, 0l);
    else result = syscall(SYS_writev, fd, iov, count);
    int kept = errno;
    s->h.offset = positioned ? offset : (result < 0 ? 0 : lseek(fd, 0, SEEK_CUR) - result);
    errno = kept;
    return leave(s, result);
}

ssize_t write(int fd, const void *bytes, size_t length) {
    struct seen s;
    if (!see_fd(&s, WRITE, C_WRITE, fd)) return syscall(SYS_write, fd, bytes, length);
    struct iovec iov = {(void *)bytes, length};
    return write_some(&s, fd, &iov, 1, 0, 0);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t offset) {
    struct seen s;
    if (!see_fd(&s, WRITE, C_PWRITE, fd)) return syscall(SYS_pwrite64, fd, bytes, length, offset);
    struct iovec iov = {(void *)bytes, length};
    return write_some(&s, fd, &iov, 1, offset, 1);
}
ssize_t pwrite(int fd, const void *bytes, size_t length, off_t offset) { return pwrite64(fd, bytes, length, offset); }

ssize_t writev(int fd, const struct iovec *iov, int count) {
    struct seen s;
    if (!see_fd(&s, WRITE, C_WRITEV, fd)) return syscall(SYS_writev, fd, iov, count);
    return write_some(&s, fd, iov, count, 0, 0);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset) {
    struct seen s;
    if (!see_fd(&s, WRITE, C_PWRITEV, fd)) return syscall(SYS_pwritev, fd, iov, count, (long)offset, 0l);
    return write_some(&s, fd, iov, count, offset, 1);
}
ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset) { return pwritev64(fd, iov, count, offset); }
ssize_t pwritev64v2(int fd, const struct iovec *iov, int count, off64_t offset, int flags) {
    (void)flags;
    return offset == -1 ? writev(fd, iov, count) : pwritev64(fd, iov, count, offset);
}
ssize_t pwritev2(int fd, const struct iovec *iov, int count, off_t offset, int flags) {
    return pwritev64v2(fd, iov, count, offset, flags);
}

/* What the kernel copied is read back for the log. */
static long copied(struct seen *s, int fd, int64_t offset, long result) {
    static __thread char bytes[1 << 21];
    static __thread struct iovec iov;
    s->h.offset = offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR) - (result > 0 ? result : 0);
    if (log_to >= 0 && result > 0) {
        char link[40];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        int again = syscall(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
        if (again < 0 || (size_t)result > sizeof bytes) abort();
        if (syscall(SYS_pread64, again, bytes, result, s->h.offset) != result) abort();
        syscall(SYS_close, again);
        iov = (struct iovec){bytes, result};
        s->data = &iov; s->pieces = 1;
    }
    return result;
}

ssize_t copy_file_range(int from, off64_t *in, int to, off64_t *out, size_t length, unsigned flags) {
    struct seen s;
    if (!see_fd(&s, WRITE, C_COPY_FILE_RANGE, to))
        return syscall(SYS_copy_file_range, from, in, to, out, length, flags);
    if (length > 1 << 21) length = 1 << 21;
    s.h.length = length;
    int64_t place = out ? *out : -1;
    return GO(s, copied(&s, to, place, syscall(SYS_copy_file_range, from, in, to, out, length, flags)));
}

ssize_t sendfile64(int to, int from, off64_t *offset, size_t length) {
    struct seen s;
    if (!see_fd(&s, WRITE, C_SENDFILE, to)) return syscall(SYS_sendfile, to, from, offset, length);
    if (length > 1 << 21) length = 1 << 21;
    s.h.length = length;
    return GO(s, copied(&s, to, -1, syscall(SYS_sendfile, to, from, offset, length)));
}
ssize_t sendfile(int to, int from, off_t *offset, size_t length) { return sendfile64(to, from, offset, length); }

int fsync(int fd) {
    struct seen s;
    if (!see_fd(&s, FSYNC, C_FSYNC, fd)) return syscall(SYS_fsync, fd);
    return GO(s, syscall(SYS_fsync, fd));
}
int fdatasync(int fd) {
    struct seen s;
    if (!see_fd(&s, FDATASYNC, C_FDATASYNC, fd)) return syscall(SYS_fdatasync, fd);
    return GO(s, syscall(SYS_fdatasync, fd));
}
int sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags) {
    struct seen s;
    if (!see_fd(&s, SYNC_RANGE, C_SYNC_FILE_RANGE, fd))
        return syscall(SYS_sync_file_range, fd, offset, length, flags);
    s.h.offset = offset; s.h.length = length;
    return GO(s, syscall(SYS_sync_file_range, fd, offset, length, flags));
}

static int moved(int dir, const char *old, int other, const char *new, unsigned flags) {
    struct seen s;
    if (!see_two(&s, RENAME, C_RENAME, dir, old, other, new))
        return syscall(SYS_renameat2, dir, old, other, new, flags);
    s.h.mode = flags;
    return GO(s, syscall(SYS_renameat2, dir, old, other, new, flags));
}
int rename(const char *old, const char *new) { return moved(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int dir, const char *old, int other, const char *new) { return moved(dir, old, other, new, 0); }
int renameat2(int dir, const char *old, int other, const char *new, unsigned flags) {
    return moved(dir, old, other, new, flags);
}

int linkat(int dir, const char *old, int other, const char *new, int flags) {
    struct seen s;
    if (!see_two(&s, LINK, C_LINK, dir, old, other, new)) return syscall(SYS_linkat, dir, old, other, new, flags);
    return GO(s, syscall(SYS_linkat, dir, old, other, new, flags));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *says, int dir, const char *path) {
    struct seen s;
    if (!see_path(&s, SYMLINK, C_SYMLINK, dir, path)) return syscall(SYS_symlinkat, says, dir, path);
    snprintf(s.second, sizeof s.second, "%s", says);
    return GO(s, syscall(SYS_symlinkat, says, dir, path));
}
int symlink(const char *says, const char *path) { return symlinkat(says, AT_FDCWD, path); }

int unlinkat(int dir, const char *path, int flags) {
    struct seen s;
    int op = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    if (!see_path(&s, op, op == RMDIR ? C_RMDIR : C_UNLINK, dir, path))
        return syscall(SYS_unlinkat, dir, path, flags);
    return GO(s, syscall(SYS_unlinkat, dir, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
    int answer = unlink(path);
    return answer < 0 && errno == EISDIR ? rmdir(path) : answer;
}

int mkdirat(int dir, const char *path, mode_t permissions) {
    struct seen s;
    if (!see_path(&s, MKDIR, C_MKDIR, dir, path)) return syscall(SYS_mkdirat, dir, path, permissions);
    s.h.mode = permissions;
    return GO(s, syscall(SYS_mkdirat, dir, path, permissions));
}
int mkdir(const char *path, mode_t permissions) { return mkdirat(AT_FDCWD, path, permissions); }

static int opened(int dir, const char *path, int flags, mode_t permissions) {
    struct seen s;
    int changes = (flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE;
    if (!see_path(&s, changes ? CREATE : OPEN, C_OPEN, dir, path))
        return syscall(SYS_openat, dir, path, flags, permissions);
    if (!changes && !(only >> OPEN & 1)) return syscall(SYS_openat, dir, path, flags, permissions);
    int how = enter(&s);
    struct stat st;
    s.h.length = flags; s.h.mode = permissions;
    s.h.offset = fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) < 0;
    if (how < 0) { errno = wrong; return leave(&s, -1); }
    if (how > 0) s.h.flags |= 2;
    int fd = syscall(SYS_openat, dir, path, flags, permissions);
    if (fd >= 0) { int kept = errno; inode_of(&s, fd); errno = kept; }
    return leave(&s, fd);
}
#define TAKE_MODE ({ mode_t m_ = 0; if ((flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE) { va_list a_; \
    va_start(a_, flags); m_ = va_arg(a_, mode_t); va_end(a_); } m_; })
int open(const char *path, int flags, ...) { return opened(AT_FDCWD, path, flags, TAKE_MODE); }
int open64(const char *path, int flags, ...) { return opened(AT_FDCWD, path, flags, TAKE_MODE); }
int openat(int dir, const char *path, int flags, ...) { return opened(dir, path, flags, TAKE_MODE); }
int openat64(int dir, const char *path, int flags, ...) { return opened(dir, path, flags, TAKE_MODE); }
/* What a program built with fortified headers calls when it gives no mode. */
int __open_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return opened(AT_FDCWD, path, flags, 0); }
int __openat_2(int dir, const char *path, int flags) { return opened(dir, path, flags, 0); }
int __openat64_2(int dir, const char *path, int flags) { return opened(dir, path, flags, 0); }
int creat(const char *path, mode_t permissions) {
    return opened(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, permissions);
}
int creat64(const char *path, mode_t permissions) { return creat(path, permissions); }

int truncate64(const char *path, off64_t length) {
    struct seen s;
    if (!see_path(&s, TRUNCATE, C_TRUNCATE, AT_FDCWD, path)) return syscall(SYS_truncate, path, length);
    struct stat st;
    s.h.offset = length;
    if (stat(path, &st) == 0) s.h.inode = st.st_ino;
    return GO(s, syscall(SYS_truncate, path, length));
}
int truncate(const char *path, off_t length) { return truncate64(path, length); }
int ftruncate64(int fd, off64_t length) {
    struct seen s;
    if (!see_fd(&s, TRUNCATE, C_FTRUNCATE, fd)) return syscall(SYS_ftruncate, fd, length);
    s.h.offset = length;
    return GO(s, syscall(SYS_ftruncate, fd, length));
}
int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

int fallocate64(int fd, int how, off64_t offset, off64_t length) {
    struct seen s;
    if (!see_fd(&s, ALLOCATE, C_FALLOCATE, fd)) return syscall(SYS_fallocate, fd, how, offset, length);
    s.h.offset = offset; s.h.length = length; s.h.mode = how;
    return GO(s, syscall(SYS_fallocate, fd, how, offset, length));
}
int fallocate(int fd, int how, off_t offset, off_t length) { return fallocate64(fd, how, offset, length); }
/* Where the file system cannot allocate, the C library writes zeros; ours says so instead. */
int posix_fallocate64(int fd, off64_t offset, off64_t length) {
    int kept = errno, answer = fallocate64(fd, 0, offset, length) < 0 ? errno : 0;
    errno = kept;
    return answer;
}
int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

void *mmap64(void *where, size_t length, int protection, int flags, int fd, off64_t offset) {
    void *there = (void *)syscall(SYS_mmap, where, length, protection, flags, fd, offset);
    struct seen s;
    if (log_to >= 0 && there != MAP_FAILED && (flags & MAP_SHARED) && (protection & PROT_WRITE) && fd >= 0 &&
        see_fd(&s, MMAP, C_MMAP, fd)) {
        s.h.offset = offset; s.h.length = length;
        pthread_mutex_lock(&order);
        leave(&s, 0);
    }
    return there;
}
void *mmap(void *where, size_t length, int protection, int flags, int fd, off_t offset) {
    return mmap64(where, length, protection, flags, fd, offset);
}

int shim_mark(const char *bytes, long length) {
    if (log_to < 0) return 0;
    struct seen s;
    memset(&s.h, 0, sizeof s.h);
    s.path[0] = s.second[0] = 0;
    struct iovec iov = {(void *)bytes, length};
    s.data = &iov; s.pieces = 1;
    s.h.op = MARK; s.h.call = C_MARK; s.h.length = length; s.h.result = length;
    pthread_mutex_lock(&order);
    leave(&s, length);
    return 1;
}
