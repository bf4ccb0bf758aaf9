/* SPDX-License-Identifier: Apache-2.0
 * Whole files: bounded reading, atomic and durable writing. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"

esp_code esp_file_read(const char *path, size_t max_len, esp_buf *ret_bytes, esp_error *reterr) {
    esp_code code = ESP_OK;
    esp_buf bytes = {0};
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return esp_fail_errno(reterr, errno == ENOENT ? ESP_NOT_FOUND : ESP_IO, "open %s", path);
    if (fstat(fd, &info) == 0 && info.st_size > 0 && (uintmax_t)info.st_size > max_len) {
        code = esp_fail(reterr, ESP_TOO_LARGE, "%s has %jd bytes; at most %zu are read", path, (intmax_t)info.st_size, max_len);
        goto out;
    }
    for (;;) {
        char chunk[65536];
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) {
            code = esp_fail_errno(reterr, ESP_IO, "read %s", path);
            goto out;
        }
        if (got == 0) break;
        if ((size_t)got > max_len - bytes.len) {
            code = esp_fail(reterr, ESP_TOO_LARGE, "%s is longer than %zu bytes", path, max_len);
            goto out;
        }
        esp_buf_put(&bytes, chunk, (size_t)got);
    }
    if (bytes.failed) {
        code = esp_fail(reterr, ESP_NOMEM, "read %s", path);
        goto out;
    }
    *ret_bytes = bytes;
    bytes = (esp_buf){0};
out:
    esp_buf_done(&bytes);
    (void)close(fd);
    return code;
}

static bool write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t put = write(fd, bytes, len);
        if (put < 0 && errno == EINTR) continue;
        if (put < 0) return false;
        bytes += put;
        len -= (size_t)put;
    }
    return true;
}

/* A rename is durable once its directory is. */
static bool sync_directory_of(const char *path) {
    char directory[4096];
    const char *slash = strrchr(path, '/');
    size_t len = slash ? (size_t)(slash - path) : 1;
    if (len >= sizeof directory) return false;
    memcpy(directory, slash ? path : ".", len);
    directory[len] = '\0';
    int fd = open(len ? directory : "/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    bool synced = fsync(fd) == 0;
    return close(fd) == 0 && synced;
}

esp_code esp_file_write(const char *path, const void *bytes, size_t len, esp_error *reterr) {
    char temp[4096];
    if (snprintf(temp, sizeof temp, "%s.XXXXXX", path) >= (int)sizeof temp) return esp_fail(reterr, ESP_INVALID, "path too long");
    int fd = mkostemp(temp, O_CLOEXEC);
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "create %s", temp);
    bool ok = write_all(fd, bytes, len) && fsync(fd) == 0;
    int saved = errno;
    ok = close(fd) == 0 && ok;
    if (ok && rename(temp, path) == 0 && sync_directory_of(path)) return ESP_OK;
    if (!ok) errno = saved;
    esp_code code = esp_fail_errno(reterr, ESP_IO, "write %s", path);
    (void)unlink(temp);
    return code;
}
