/* SPDX-License-Identifier: Apache-2.0
 * The files that training jobs go on from: DIR/checkpoints/ID, the newest only, written by the job's worker in one piece (temporary
 * name, sync, rename) and gone with the job. Not blobs: they change, and nobody but the next worker on the job looks into one.
 *
 * Losing one costs time and nothing else: a job without starts over and makes the same models. So a file that cannot be
 * removed is only logged. */
#include "jobs/private.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"

static void directory(const esp_jobs *jobs, char ret_path[4096]) {
    snprintf(ret_path, 4096, "%s/checkpoints", esp_registry_dir(jobs->server->registry));
}

void job_checkpoint_path(const esp_jobs *jobs, const char *id, char ret_path[4096]) {
    snprintf(ret_path, 4096, "%s/checkpoints/%s", esp_registry_dir(jobs->server->registry), id);
}

static void drop(DIR *dir, const char *name) {
    if (unlinkat(dirfd(dir), name, 0) != 0 && errno != ENOENT) esp_log(ESP_LOG_ERROR, "checkpoint", "file=%s message=\"%s\"", name, strerror(errno));
}

/* A whole file of a job that is to run again. A worker that was killed while it wrote leaves ID.XXXXXX. */
static bool is_wanted(esp_db *db, const char *name) {
    esp_job_row row = {0};
    bool wanted = strchr(name, '.') == NULL && esp_job_find(db, name, &row, NULL) == ESP_OK && !esp_job_state_terminal(row.state);
    esp_job_row_done(&row);
    return wanted;
}

static bool is_dot(const char *name) {
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

esp_code job_checkpoints_open(esp_jobs *jobs, esp_error *reterr) {
    char path[4096];
    esp_db *db = NULL;
    directory(jobs, path);
    if (mkdir(path, 0700) && errno != EEXIST) return esp_fail_errno(reterr, ESP_IO, "make %s", path);
    DIR *dir = opendir(path);
    if (!dir) return esp_fail_errno(reterr, ESP_IO, "read %s", path);
    esp_code code = esp_registry_read_begin(jobs->server->registry, &db, reterr);
    for (struct dirent *e = code ? NULL : readdir(dir); e; e = readdir(dir))
        if (!is_dot(e->d_name) && !is_wanted(db, e->d_name)) drop(dir, e->d_name);
    if (!code) esp_registry_read_end(jobs->server->registry, db);
    closedir(dir);
    return code;
}

/* And what a killed worker left of another. */
void job_checkpoint_remove(const esp_jobs *jobs, const char *id) {
    char path[4096];
    size_t n = strlen(id);
    directory(jobs, path);
    DIR *dir = opendir(path);
    for (struct dirent *e = dir ? readdir(dir) : NULL; e; e = readdir(dir))
        if (strncmp(e->d_name, id, n) == 0 && (e->d_name[n] == '\0' || e->d_name[n] == '.')) drop(dir, e->d_name);
    if (dir) closedir(dir);
}
