/* Preloaded into a process: every write to a file named data.mdb, and every time it was made durable, goes into $STORE_RECORD, in order.

   An entry of the record is four u64 (what: 1 a write, 2 a write that is durable when it returns, 3 everything before is durable;
   offset; bytes) and the bytes. tests/store_cuts.py reads it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int is_data(int fd)
{
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    return n > 8 && memcmp(path + n - 8, "data.mdb", 8) == 0;
}

static void note(uint64_t what, uint64_t offset, const struct iovec *parts, int count)
{
    static int record = -1;
    if (record < 0) {
        const char *path = getenv("STORE_RECORD");
        if (!path || (record = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600)) < 0)
            abort();
    }
    uint64_t bytes = 0;
    for (int i = 0; i < count; i++)
        bytes += parts[i].iov_len;
    uint64_t head[3] = {what, offset, bytes};
    struct iovec all[1025] = {{head, sizeof head}};
    if (count > 1024)
        abort();
    memcpy(all + 1, parts, count * sizeof *parts);
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    if (real(record, all, count + 1) != (ssize_t)(sizeof head + bytes))
        abort();
}

static void note_write(int fd, const struct iovec *parts, int count, off_t offset)
{
    if (is_data(fd))
        note(fcntl(fd, F_GETFL) & (O_DSYNC | O_SYNC) ? 2 : 1, offset, parts, count);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t offset)
{
    ssize_t (*real)(int, const void *, size_t, off_t) = dlsym(RTLD_NEXT, "pwrite");
    note_write(fd, &(struct iovec){(void *)data, bytes}, 1, offset);
    return real(fd, data, bytes, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t bytes, off_t offset) { return pwrite(fd, data, bytes, offset); }

ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t) = dlsym(RTLD_NEXT, "pwritev");
    note_write(fd, parts, count, offset);
    return real(fd, parts, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off_t offset) { return pwritev(fd, parts, count, offset); }

ssize_t write(int fd, const void *data, size_t bytes)
{
    ssize_t (*real)(int, const void *, size_t) = dlsym(RTLD_NEXT, "write");
    note_write(fd, &(struct iovec){(void *)data, bytes}, 1, lseek(fd, 0, SEEK_CUR));
    return real(fd, data, bytes);
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t (*real)(int, const struct iovec *, int) = dlsym(RTLD_NEXT, "writev");
    note_write(fd, parts, count, lseek(fd, 0, SEEK_CUR));
    return real(fd, parts, count);
}

static int synced(int fd, const char *name)
{
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    int result = real(fd);
    if (result == 0 && is_data(fd))
        note(3, 0, 0, 0);
    return result;
}

int fdatasync(int fd) { return synced(fd, "fdatasync"); }
int fsync(int fd) { return synced(fd, "fsync"); }
