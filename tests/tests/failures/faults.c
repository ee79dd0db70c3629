/* Stands between the broker and the system (LD_PRELOAD): lets writes and syncs of files in a directory
   "journal" or "state" fail, and sets the wall clock, as a small file that is shared with the test says. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct faults {
    volatile int32_t write_error; /* an errno; 0: none */
    volatile int32_t sync_error;
    volatile int64_t clock_s; /* seconds that the wall clock is wrong */
    volatile int32_t of_state; /* the files of the state instead of the journal's */
};

static struct faults *faults;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("TIDINGS_TEST_FAULTS");
    int file = path ? open(path, O_RDWR) : -1;
    if (file >= 0) {
        void *shared = mmap(NULL, sizeof *faults, PROT_READ, MAP_SHARED, file, 0);
        faults = shared == MAP_FAILED ? NULL : shared;
        close(file);
    }
}

static int is_meant(int file) {
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return strstr(path, faults->of_state ? "/state/" : "/journal/") != NULL;
}

static int fails(int file, int error) {
    if (!error || !is_meant(file))
        return 0;
    errno = error;
    return 1;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t position) {
    if (faults && fails(file, faults->write_error))
        return -1;
    return syscall(SYS_pwrite64, file, bytes, count, position);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t position) {
    return pwrite64(file, bytes, count, position);
}

ssize_t write(int file, const void *bytes, size_t count) {
    if (faults && faults->write_error && fails(file, faults->write_error))
        return -1;
    return syscall(SYS_write, file, bytes, count);
}

int fdatasync(int file) {
    if (faults && fails(file, faults->sync_error))
        return -1;
    return syscall(SYS_fdatasync, file);
}

int fsync(int file) {
    if (faults && fails(file, faults->sync_error))
        return -1;
    return syscall(SYS_fsync, file);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME && faults)
        time->tv_sec += faults->clock_s;
    return result;
}
