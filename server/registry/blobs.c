/* SPDX-License-Identifier: Apache-2.0
 * Content-addressed files: DIR/blobs/ab/abcdef..., written under DIR/tmp and moved into place.
 *
 * The order is what makes a row's blob always there: bytes written, file synced, renamed, both directories synced, and
 * only then may a row name it. A crash before the rename leaves a file in DIR/tmp, which the next start removes; a
 * crash after it leaves a blob that no row names, which is harmless. Blobs never change, so a second commit of the same
 * hash just drops its copy. */
#include "registry/db.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

esp_code esp_dir_sync(const char *path, esp_error *reterr) {
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "open %s", path);
    esp_code code = fsync(fd) == 0 ? ESP_OK : esp_fail_errno(reterr, ESP_IO, "sync %s", path);
    close(fd);
    return code;
}

static esp_code join(const char *dir, const char *sub, char ret_path[4096], esp_error *reterr) {
    int n = snprintf(ret_path, 4096, "%s/%s", dir, sub);
    return n > 0 && n < 4096 ? ESP_OK : esp_fail(reterr, ESP_IO, "the data directory's path is too long");
}

static esp_code make_dir(const char *dir, const char *sub, esp_error *reterr) {
    char path[4096];
    esp_code code = join(dir, sub, path, reterr);
    if (code) return code;
    if (mkdir(path, 0700) == 0) return esp_dir_sync(dir, reterr);
    return errno == EEXIST ? ESP_OK : esp_fail_errno(reterr, ESP_IO, "make %s", path);
}

static esp_code sweep(const char *path, esp_error *reterr) {
    DIR *dir = opendir(path);
    if (!dir) return esp_fail_errno(reterr, ESP_IO, "read %s", path);
    esp_code code = ESP_OK;
    for (struct dirent *entry = readdir(dir); entry && !code; entry = readdir(dir)) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (unlinkat(dirfd(dir), entry->d_name, 0) != 0) code = esp_fail_errno(reterr, ESP_IO, "remove %s/%s", path, entry->d_name);
    }
    closedir(dir);
    return code;
}

esp_code esp_blobs_init(const char *dir, esp_error *reterr) {
    char path[4096];
    esp_code code = make_dir(dir, "blobs", reterr);
    if (!code) code = make_dir(dir, "tmp", reterr);
    if (!code) code = join(dir, "tmp", path, reterr);
    return code ? code : sweep(path, reterr);
}

esp_code esp_blob_temp(esp_registry *registry, char ret_path[4096], esp_error *reterr) {
    static atomic_ullong counter;
    int n =
        snprintf(ret_path, 4096, "%s/tmp/%ld-%llu", esp_registry_dir(registry), (long)getpid(), (unsigned long long)atomic_fetch_add(&counter, 1));
    return n < 4096 ? ESP_OK : esp_fail(reterr, ESP_IO, "the data directory's path is too long");
}

void esp_blob_path(const esp_registry *registry, const char *sha256, char ret_path[4096]) {
    snprintf(ret_path, 4096, "%s/blobs/%.2s/%s", esp_registry_dir(registry), sha256, sha256);
}

bool esp_blob_exists(const esp_registry *registry, const char *sha256) {
    char path[4096];
    struct stat st;
    esp_blob_path(registry, sha256, path);
    return stat(path, &st) == 0 && S_ISREG(st.st_mode);
}

esp_code esp_file_sync(const char *path, esp_error *reterr) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "open %s", path);
    esp_code code = fsync(fd) == 0 ? ESP_OK : esp_fail_errno(reterr, ESP_IO, "sync %s", path);
    close(fd);
    return code;
}

esp_code esp_blob_commit(esp_registry *registry, const char *temp_path, const char *sha256, esp_error *reterr) {
    char path[4096], sub[3] = "", blobs[4096], folder[4096];
    if (esp_blob_exists(registry, sha256)) {
        return unlink(temp_path) == 0 ? ESP_OK : esp_fail_errno(reterr, ESP_IO, "remove %s", temp_path);
    }
    esp_code code = esp_file_sync(temp_path, reterr);
    if (code) return code;
    memcpy(sub, sha256, 2);
    code = join(esp_registry_dir(registry), "blobs", blobs, reterr);
    if (!code) code = make_dir(blobs, sub, reterr);
    if (!code) code = join(blobs, sub, folder, reterr);
    if (code) return code;
    esp_blob_path(registry, sha256, path);
    if (rename(temp_path, path) != 0) return esp_fail_errno(reterr, ESP_IO, "move a blob into place");
    return esp_dir_sync(folder, reterr);
}

static esp_code write_all(int fd, const char *bytes, size_t len) {
    while (len > 0) {
        ssize_t n = write(fd, bytes, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return ESP_IO;
        bytes += n;
        len -= (size_t)n;
    }
    return ESP_OK;
}

esp_code esp_blob_put(esp_registry *registry, const void *bytes, size_t len, char ret_sha256[ESP_HASH_HEX], esp_error *reterr) {
    char sha256[ESP_HASH_HEX], temp[4096];
    esp_hash_bytes(bytes, len, sha256);
    esp_code code = ESP_OK;
    if (!esp_blob_exists(registry, sha256)) {
        code = esp_blob_temp(registry, temp, reterr);
        if (code) return code;
        int fd = open(temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0) return esp_fail_errno(reterr, ESP_IO, "make %s", temp);
        if (write_all(fd, bytes, len)) code = esp_fail_errno(reterr, ESP_IO, "write %s", temp);
        close(fd);
        if (!code) code = esp_blob_commit(registry, temp, sha256, reterr);
        if (code) (void)unlink(temp);
    }
    if (!code) memcpy(ret_sha256, sha256, sizeof sha256);
    return code;
}
