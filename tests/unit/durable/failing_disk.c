/* Preloaded into a process: while the file $DISK_FAILS_IF exists, nothing can be made durable. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

int fdatasync(int fd)
{
    int (*real)(int) = dlsym(RTLD_NEXT, "fdatasync");
    if (access(getenv("DISK_FAILS_IF"), F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return real(fd);
}
