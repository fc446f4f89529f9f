/*
 * recorder: an LD_PRELOAD library that writes down what a program does to the files of one directory.
 *
 * Purpose: powercut.py replays the log and builds the directory as a power cut at any point could have left it.
 * Usage:   RECORDER_DIR=/abs/dir RECORDER_LOG=/abs/log LD_PRELOAD=recorder.so program   (dynamic programs only)
 * Result:  a log of records (struct record, then path, second path and data octets); replay.py reads them. The order in the
 *          log is the order of events: one mutex, one write(2) with O_APPEND a record.
 *
 * - A write is logged after it happened; a sync is logged twice, when it begins and when it has ended, since it covers
 *   only writes that happened before it began. An acknowledgement is logged before it is sent: a cut behind its record
 *   may already have been seen by the client, so everything it promises must be there.
 * - Files are known by inode (fstat at each call), so dup, fcntl and descriptors opened out of sight do no harm.
 * - Not seen: raw system calls, io_uring, stores through a writable mmap. Calls that we do not model are logged as 'X'.
 * - The log is opened in the constructor, before the program can restrict itself (Landlock); later only write, fstat,
 *   fcntl(F_GETFL) and access are used, which a seccomp list of a mail server has anyway.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

struct record {
    uint32_t magic;     /* 0x52435031 */
    uint8_t kind;       /* see the calls of note() */
    uint8_t flags;      /* 1: the descriptor is O_SYNC or O_DSYNC; for opens 2: created, 4: truncated */
    uint16_t paths;     /* octets of first path << 0; the second path is the data */
    uint32_t data;
    uint32_t thread;
    uint64_t inode;
    uint64_t offset;
    uint64_t argument;
};

#define SYNCED 1
#define CREATED 2
#define TRUNCATED 4
#define KNOWN 4096
#define PORTS 65536

static int log_fd = -1;
static char dir[PATH_MAX];
static size_t dir_length;
static dev_t dir_device;
static pthread_mutex_t log_mutex = PTHREAD_MUTEX_INITIALIZER;
static uint64_t known[KNOWN];
static size_t known_count;
static uint64_t sync_serial;
static uint16_t port_of[PORTS];

#define REAL(name, result, ...)                                             \
    static result (*real)(__VA_ARGS__);                                     \
    if (!real) real = (result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static void note(uint8_t kind, uint8_t flags, const char *path, const void *data, size_t length, uint64_t inode, uint64_t offset,
                 uint64_t argument)
{
    if (log_fd < 0) return;
    int saved = errno;
    size_t path_length = path ? strlen(path) : 0;
    struct record head = {0x52435031, kind, flags, (uint16_t)path_length, (uint32_t)length, (uint32_t)syscall(SYS_gettid), inode, offset, argument};
    size_t whole = sizeof head + path_length + length;
    char small[4096], *octets = whole <= sizeof small ? small : malloc(whole);
    if (!octets) abort();
    memcpy(octets, &head, sizeof head);
    if (path_length) memcpy(octets + sizeof head, path, path_length);
    if (length) memcpy(octets + sizeof head + path_length, data, length);
    pthread_mutex_lock(&log_mutex);
    if (syscall(SYS_write, log_fd, octets, whole) != (long)whole) abort(); /* a log with a hole proves nothing */
    pthread_mutex_unlock(&log_mutex);
    if (octets != small) free(octets);
    errno = saved;
}

__attribute__((constructor)) static void begin(void)
{
    const char *log = getenv("RECORDER_LOG"), *wanted = getenv("RECORDER_DIR");
    struct stat st;
    if (!log || !wanted || !realpath(wanted, dir) || stat(dir, &st) != 0) return;
    dir_length = strlen(dir);
    dir_device = st.st_dev;
    int fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0) return;
    log_fd = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 900); /* out of the way of programs that count descriptors */
    syscall(SYS_close, fd);
    note('S', 0, dir, NULL, 0, st.st_ino, 0, (uint64_t)getpid());
}

/* The path relative to the directory, "." for itself, NULL when it is elsewhere. */
static const char *inside(int at, const char *path, char *room)
{
    if (log_fd < 0 || !path) return NULL;
    if (path[0] != '/') {
        char link[64], base[PATH_MAX];
        ssize_t n;
        if (at == AT_FDCWD) {
            n = getcwd(base, sizeof base) ? (ssize_t)strlen(base) : -1;
        } else {
            int digits = at, i = 0;
            char reversed[16];
            strcpy(link, "/proc/self/fd/");
            do reversed[i++] = (char)('0' + digits % 10); while ((digits /= 10));
            size_t end = strlen(link);
            while (i) link[end++] = reversed[--i];
            link[end] = 0;
            n = readlink(link, base, sizeof base - 1);
        }
        if (n < 0 || (size_t)n + strlen(path) + 2 > PATH_MAX) return NULL;
        memcpy(room, base, (size_t)n);
        room[n] = '/';
        strcpy(room + n + 1, path);
        path = room;
    }
    if (strncmp(path, dir, dir_length) != 0) return NULL;
    if (path[dir_length] == 0) return ".";
    if (path[dir_length] != '/') return NULL;
    path += dir_length;
    while (*path == '/') path++;
    return *path ? path : ".";
}

static void learn(uint64_t inode)
{
    pthread_mutex_lock(&log_mutex);
    for (size_t i = 0; i < known_count; i++)
        if (known[i] == inode) goto out;
    if (known_count < KNOWN) known[known_count++] = inode;
    else known[inode % KNOWN] = inode;
out:
    pthread_mutex_unlock(&log_mutex);
}

/* The inode behind a descriptor when it is a file or folder of ours, else 0. */
static uint64_t ours(int fd, uint8_t *flags)
{
    struct stat st;
    if (log_fd < 0) return 0;
    int saved = errno;
    uint64_t inode = 0;
    if (fstat(fd, &st) == 0 && st.st_dev == dir_device && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        for (size_t i = 0; i < known_count && !inode; i++)
            if (known[i] == st.st_ino) inode = st.st_ino;
    if (inode && flags) *flags = (fcntl(fd, F_GETFL) & O_DSYNC) ? SYNCED : 0; /* O_SYNC contains O_DSYNC */
    errno = saved;
    return inode;
}

static int opened(int fd, const char *path, int flags, int existed)
{
    struct stat st;
    if (path && fd >= 0 && fstat(fd, &st) == 0 && (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))) {
        learn(st.st_ino);
        uint8_t what = (flags & O_DSYNC ? SYNCED : 0) | (existed ? 0 : CREATED) | (existed && (flags & O_TRUNC) ? TRUNCATED : 0);
        note('O', what, path, NULL, 0, st.st_ino, 0, S_ISDIR(st.st_mode));
    }
    return fd;
}

static int open_and_note(int at, const char *path, int flags, mode_t mode)
{
    REAL("openat", int, int, const char *, int, ...);
    char room[PATH_MAX * 2];
    const char *mine = inside(at, path, room);
    int existed = 1;
    if (mine && (flags & O_TMPFILE) == O_TMPFILE) note('X', 0, "O_TMPFILE", NULL, 0, 0, 0, 0);
    if (mine && (flags & O_CREAT)) existed = faccessat(at, path, F_OK, 0) == 0;
    return opened(real(at, path, flags, mode), mine, flags, existed);
}

#define MODE_OF(last) va_list more; mode_t mode = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { va_start(more, last); mode = va_arg(more, mode_t); va_end(more); }

int open(const char *path, int flags, ...) { MODE_OF(flags) return open_and_note(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE_OF(flags) return open_and_note(AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_and_note(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE_OF(flags) return open_and_note(at, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_and_note(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return open_and_note(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }

/* A reply to a final dot among octets that go to a socket. */
static void look_for_reply(int fd, const void *octets, size_t length)
{
    const char *found;
    if (log_fd < 0 || length < 6 || length > 65536) return;
    if (!(found = memmem(octets, length, "250 2.0.0", 9)) && !(found = memmem(octets, length, "250 2.6.0", 9))) return;
    struct stat st;
    int saved = errno;
    if (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode)) {
        uint16_t port = fd < PORTS ? port_of[fd] : 0;
        struct sockaddr_in peer;
        socklen_t room = sizeof peer;
        if (!port && getpeername(fd, (struct sockaddr *)&peer, &room) == 0) port = ntohs(peer.sin_port);
        size_t rest = length - (size_t)(found - (const char *)octets);
        note('K', 0, NULL, found, rest > 512 ? 512 : rest, 0, 0, port);
    }
    errno = saved;
}

static int accepted(int fd, const struct sockaddr *peer)
{
    if (fd >= 0 && fd < PORTS) port_of[fd] = peer && peer->sa_family == AF_INET ? ntohs(((const struct sockaddr_in *)peer)->sin_port) : 0;
    return fd;
}

int accept4(int fd, struct sockaddr *peer, socklen_t *room, int flags)
{
    REAL("accept4", int, int, struct sockaddr *, socklen_t *, int);
    return accepted(real(fd, peer, room, flags), peer);
}

int accept(int fd, struct sockaddr *peer, socklen_t *room)
{
    REAL("accept", int, int, struct sockaddr *, socklen_t *);
    return accepted(real(fd, peer, room), peer);
}

ssize_t send(int fd, const void *octets, size_t length, int flags)
{
    REAL("send", ssize_t, int, const void *, size_t, int);
    look_for_reply(fd, octets, length);
    return real(fd, octets, length, flags);
}

ssize_t sendto(int fd, const void *octets, size_t length, int flags, const struct sockaddr *to, socklen_t room)
{
    REAL("sendto", ssize_t, int, const void *, size_t, int, const struct sockaddr *, socklen_t);
    look_for_reply(fd, octets, length);
    return real(fd, octets, length, flags, to, room);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    REAL("sendmsg", ssize_t, int, const struct msghdr *, int);
    for (size_t i = 0; i < message->msg_iovlen; i++) look_for_reply(fd, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
    return real(fd, message, flags);
}

/* Without an offset of its own a write goes to the descriptor's position: that is where it ended, less its length. */
static void wrote(int fd, const struct iovec *parts, int count, ssize_t done, int64_t offset)
{
    uint8_t flags = 0;
    uint64_t inode;
    if (done <= 0 || !(inode = ours(fd, &flags))) return;
    if (offset < 0) offset = lseek(fd, 0, SEEK_CUR) - done;
    for (int i = 0; i < count && done > 0; i++) {
        size_t length = parts[i].iov_len < (size_t)done ? parts[i].iov_len : (size_t)done;
        if (length) note('W', flags, NULL, parts[i].iov_base, length, inode, (uint64_t)offset, 0);
        offset += (int64_t)length;
        done -= (ssize_t)length;
    }
}

ssize_t write(int fd, const void *octets, size_t length)
{
    REAL("write", ssize_t, int, const void *, size_t);
    look_for_reply(fd, octets, length);
    ssize_t done = real(fd, octets, length);
    wrote(fd, &(struct iovec){(void *)octets, length}, 1, done, -1);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    REAL("writev", ssize_t, int, const struct iovec *, int);
    for (int i = 0; i < count; i++) look_for_reply(fd, parts[i].iov_base, parts[i].iov_len);
    ssize_t done = real(fd, parts, count);
    wrote(fd, parts, count, done, -1);
    return done;
}

#define PWRITE(name)                                                                       \
    ssize_t name(int fd, const void *octets, size_t length, off64_t offset)                \
    {                                                                                      \
        REAL(#name, ssize_t, int, const void *, size_t, off64_t);                          \
        ssize_t done = real(fd, octets, length, offset);                                   \
        wrote(fd, &(struct iovec){(void *)octets, length}, 1, done, offset);               \
        return done;                                                                       \
    }
PWRITE(pwrite)
PWRITE(pwrite64)

#define PWRITEV(name)                                                                      \
    ssize_t name(int fd, const struct iovec *parts, int count, off64_t offset)             \
    {                                                                                      \
        REAL(#name, ssize_t, int, const struct iovec *, int, off64_t);                     \
        ssize_t done = real(fd, parts, count, offset);                                     \
        wrote(fd, parts, count, done, offset);                                             \
        return done;                                                                       \
    }
PWRITEV(pwritev)
PWRITEV(pwritev64)

#define TRUNCATE(name)                                                                     \
    int name(int fd, off64_t size)                                                         \
    {                                                                                      \
        REAL(#name, int, int, off64_t);                                                    \
        int done = real(fd, size);                                                         \
        uint64_t inode = done == 0 ? ours(fd, NULL) : 0;                                   \
        if (inode) note('T', 0, NULL, NULL, 0, inode, (uint64_t)size, 0);                  \
        return done;                                                                       \
    }
TRUNCATE(ftruncate)
TRUNCATE(ftruncate64)

#define ALLOCATE(name)                                                                     \
    int name(int fd, int mode, off64_t offset, off64_t length)                             \
    {                                                                                      \
        REAL(#name, int, int, int, off64_t, off64_t);                                      \
        int done = real(fd, mode, offset, length);                                         \
        uint64_t inode = done == 0 ? ours(fd, NULL) : 0;                                   \
        if (inode && mode == 0) note('A', 0, NULL, NULL, 0, inode, (uint64_t)(offset + length), 0); \
        else if (inode && mode != FALLOC_FL_KEEP_SIZE) note('X', 0, "fallocate with a mode", NULL, 0, inode, 0, 0); \
        return done;                                                                       \
    }
ALLOCATE(fallocate)
ALLOCATE(fallocate64)

#define POSIX_ALLOCATE(name)                                                               \
    int name(int fd, off64_t offset, off64_t length)                                       \
    {                                                                                      \
        REAL(#name, int, int, off64_t, off64_t);                                           \
        int done = real(fd, offset, length);                                               \
        uint64_t inode = done == 0 ? ours(fd, NULL) : 0;                                   \
        if (inode) note('A', 0, NULL, NULL, 0, inode, (uint64_t)(offset + length), 0);     \
        return done;                                                                       \
    }
POSIX_ALLOCATE(posix_fallocate)
POSIX_ALLOCATE(posix_fallocate64)

#define SYNC(name)                                                                         \
    int name(int fd)                                                                       \
    {                                                                                      \
        REAL(#name, int, int);                                                             \
        uint64_t inode = ours(fd, NULL), serial = 0;                                       \
        if (inode) note('B', 0, NULL, NULL, 0, inode, 0, serial = __atomic_add_fetch(&sync_serial, 1, __ATOMIC_SEQ_CST)); \
        int done = real(fd);                                                               \
        if (inode && done == 0) note('E', 0, NULL, NULL, 0, inode, 0, serial);             \
        return done;                                                                       \
    }
SYNC(fsync)
SYNC(fdatasync)

int msync(void *address, size_t length, int flags)
{
    REAL("msync", int, void *, size_t, int);
    note('M', 0, NULL, NULL, 0, 0, length, (uint64_t)flags); /* covers nothing: our files are not written through maps */
    return real(address, length, flags);
}

void *mmap(void *address, size_t length, int protection, int flags, int fd, off64_t offset)
{
    if (fd >= 0 && (flags & MAP_SHARED) && (protection & PROT_WRITE)) {
        uint64_t inode = ours(fd, NULL);
        if (inode) note('P', 0, NULL, NULL, 0, inode, (uint64_t)length, 0); /* stores through this map are out of sight */
    }
    return (void *)syscall(SYS_mmap, address, length, protection, flags, fd, offset);
}
void *mmap64(void *, size_t, int, int, int, off64_t) __attribute__((alias("mmap")));

static int renamed(int done, int from_at, const char *from, int to_at, const char *to)
{
    char first[PATH_MAX * 2], second[PATH_MAX * 2];
    const char *a = inside(from_at, from, first), *b = inside(to_at, to, second);
    if (done == 0 && a && b) note('R', 0, a, b, strlen(b), 0, 0, 0);
    else if (done == 0 && (a || b)) note('X', 0, "rename across the border", NULL, 0, 0, 0, 0);
    return done;
}

int rename(const char *from, const char *to)
{
    REAL("rename", int, const char *, const char *);
    return renamed(real(from, to), AT_FDCWD, from, AT_FDCWD, to);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    REAL("renameat", int, int, const char *, int, const char *);
    return renamed(real(from_at, from, to_at, to), from_at, from, to_at, to);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    REAL("renameat2", int, int, const char *, int, const char *, unsigned);
    return renamed(real(from_at, from, to_at, to, flags), from_at, from, to_at, to);
}

static int gone(int done, int at, const char *path, uint8_t kind)
{
    char room[PATH_MAX * 2];
    const char *mine = done == 0 ? inside(at, path, room) : NULL;
    if (mine) note(kind, 0, mine, NULL, 0, 0, 0, 0);
    return done;
}

int unlink(const char *path)
{
    REAL("unlink", int, const char *);
    return gone(real(path), AT_FDCWD, path, 'U');
}

int unlinkat(int at, const char *path, int flags)
{
    REAL("unlinkat", int, int, const char *, int);
    return gone(real(at, path, flags), at, path, 'U');
}

int mkdir(const char *path, mode_t mode)
{
    REAL("mkdir", int, const char *, mode_t);
    return gone(real(path, mode), AT_FDCWD, path, 'D');
}

int link(const char *from, const char *to)
{
    REAL("link", int, const char *, const char *);
    int done = real(from, to);
    char first[PATH_MAX * 2], second[PATH_MAX * 2];
    const char *a = inside(AT_FDCWD, from, first), *b = inside(AT_FDCWD, to, second);
    if (done == 0 && a && b) note('L', 0, a, b, strlen(b), 0, 0, 0);
    return done;
}
