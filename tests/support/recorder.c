/* Records what a process does to the files of a journal, and lets a chosen call fail.
 *
 * Loaded with LD_PRELOAD. Files whose name contains RECORDER_MATCH are watched; the calls are written, in
 * their order, to the file RECORDER_LOG, if that is given, with the syncs of the folder RECORDER_FOLDER. recorder_fail(n, error, calls) lets the n-th call
 * from now on fail, and the calls - 1 after it; with the error 0 it writes half of its bytes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

enum { WRITE = 1, SYNC_BEGINS, SYNC_ENDS, TRUNCATE, REMOVE };
enum { MAIN = 1, LOG, PROMISES, RESERVE, JOURNAL, FOLDER };
enum { MOST_FILES = 1 << 16 };

struct record {
    uint32_t kind, file, thread, size;
    int64_t offset;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char watched[MOST_FILES]; /* 1 + the kind of the file */
static int log_file = -1;
static long long calls, fail_from = -1, fail_before = -1;
static int fail_error;

static int (*real_open)(const char *, int, ...);
static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_fsync)(int), (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off64_t);
static int (*real_unlink)(const char *);
static int (*real_fallocate)(int, off64_t, off64_t);

__attribute__((constructor)) static void start(void) {
    real_open = dlsym(RTLD_NEXT, "open64");
    real_openat = dlsym(RTLD_NEXT, "openat64");
    real_close = dlsym(RTLD_NEXT, "close");
    real_write = dlsym(RTLD_NEXT, "write");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    real_unlink = dlsym(RTLD_NEXT, "unlink");
    real_fallocate = dlsym(RTLD_NEXT, "posix_fallocate64");
    const char *path = getenv("RECORDER_LOG");
    if (path != NULL) log_file = real_open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

long long recorder_calls(void) { return calls; }

void recorder_fail(long long number, int error, long long how_many) {
    pthread_mutex_lock(&lock);
    fail_from = number < 0 ? -1 : calls + number;
    fail_before = number < 0 ? -1 : fail_from + how_many;
    fail_error = error;
    pthread_mutex_unlock(&lock);
}

static int kind_of(int file) { return file >= 0 && file < MOST_FILES ? watched[file] : 0; }

static int fails(void) { /* with the lock */
    long long mine = calls++;
    return fail_from >= 0 && mine >= fail_from && mine < fail_before;
}

static void put_kind(int kind, int file, const void *data, size_t size, int64_t offset) { /* with the lock */
    if (log_file < 0) return;
    struct record record = {kind, file - 1, (uint32_t)gettid(), (uint32_t)size, offset};
    real_write(log_file, &record, sizeof record);
    if (data != NULL) real_write(log_file, data, size);
}

static void put(int kind, int file, const void *data, size_t size, int64_t offset) {
    put_kind(kind, watched[file], data, size, offset);
}

static int kind_of_path(const char *path) { /* 0: not watched */
    const char *match = getenv("RECORDER_MATCH"), *folder = getenv("RECORDER_FOLDER");
    if (folder != NULL && strcmp(path, folder) == 0) return FOLDER;
    if (match == NULL || strstr(path, match) == NULL) return 0;
    const char *others[] = {"-shm", "-turn", "-owners"};
    for (size_t at = 0; at < 3; at++)
        if (strstr(path, others[at]) != NULL) return 0;
    if (strstr(path, "-wal") != NULL) return LOG;
    if (strstr(path, "-promises") != NULL) return PROMISES;
    if (strstr(path, "-reserve") != NULL) return RESERVE;
    return strstr(path, "-journal") != NULL ? JOURNAL : MAIN;
}

static void watch(int file, const char *path) {
    if (file >= 0 && file < MOST_FILES) watched[file] = kind_of_path(path);
}

int unlink(const char *path) {
    pthread_mutex_lock(&lock);
    int result = real_unlink(path), error = errno, kind = kind_of_path(path);
    if (result == 0 && kind) put_kind(REMOVE, kind, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static ssize_t write_at(int file, const void *data, size_t size, off64_t offset, int plain) {
    pthread_mutex_lock(&lock);
    size_t some = size;
    if (kind_of(file) != PROMISES && fails()) {
        if (fail_error != 0) {
            pthread_mutex_unlock(&lock);
            errno = fail_error;
            return -1;
        }
        some = size > 1 ? size / 2 : size;
    }
    off64_t at = plain ? lseek64(file, 0, SEEK_CUR) : offset;
    ssize_t written = plain ? real_write(file, data, some) : real_pwrite(file, data, some, offset);
    int error = errno;
    if (written > 0) put(WRITE, file, data, written, at);
    pthread_mutex_unlock(&lock);
    errno = error;
    return written;
}

static int synced(int file, int (*sync)(int)) {
    pthread_mutex_lock(&lock);
    int failed = fails() && fail_error != 0;
    put(SYNC_BEGINS, file, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    if (failed) {
        errno = fail_error;
        return -1;
    }
    int result = sync(file), error = errno;
    pthread_mutex_lock(&lock);
    if (result == 0) put(SYNC_ENDS, file, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int truncated(int file, off64_t size) {
    pthread_mutex_lock(&lock);
    int result = -1, error = fail_error;
    if (!(fails() && fail_error != 0)) {
        result = real_ftruncate(file, size);
        error = errno;
        if (result == 0) put(TRUNCATE, file, NULL, 0, size);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static int allocated(int file, off64_t offset, off64_t size) {
    if (kind_of(file) == 0) return real_fallocate(file, offset, size);
    pthread_mutex_lock(&lock);
    int error = fails() && fail_error != 0 ? fail_error : 0;
    pthread_mutex_unlock(&lock);
    return error != 0 ? error : real_fallocate(file, offset, size);
}

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        int file = real_open(path, flags, va_arg(rest, unsigned int));    \
        va_end(rest);                                                     \
        watch(file, path);                                                \
        return file;                                                      \
    }
#define OPENAT(name)                                                              \
    int name(int folder, const char *path, int flags, ...) {                      \
        va_list rest;                                                             \
        va_start(rest, flags);                                                    \
        int file = real_openat(folder, path, flags, va_arg(rest, unsigned int));  \
        va_end(rest);                                                             \
        watch(file, path);                                                        \
        return file;                                                              \
    }
OPEN(open)
OPEN(open64)
OPENAT(openat)
OPENAT(openat64)

int close(int file) {
    if (kind_of(file)) watched[file] = 0;
    return real_close(file);
}

ssize_t write(int file, const void *data, size_t size) {
    return kind_of(file) ? write_at(file, data, size, 0, 1) : real_write(file, data, size);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t offset) {
    return kind_of(file) ? write_at(file, data, size, offset, 0) : real_pwrite(file, data, size, offset);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t offset) {
    return kind_of(file) ? write_at(file, data, size, offset, 0) : real_pwrite(file, data, size, offset);
}

int fsync(int file) { return kind_of(file) ? synced(file, real_fsync) : real_fsync(file); }

int fdatasync(int file) { return kind_of(file) ? synced(file, real_fdatasync) : real_fdatasync(file); }

int ftruncate(int file, off_t size) {
    return kind_of(file) ? truncated(file, size) : real_ftruncate(file, size);
}

int ftruncate64(int file, off64_t size) {
    return kind_of(file) ? truncated(file, size) : real_ftruncate(file, size);
}

int posix_fallocate(int file, off_t offset, off_t size) { return allocated(file, offset, size); }

int posix_fallocate64(int file, off64_t offset, off64_t size) { return allocated(file, offset, size); }
