/* SPDX-License-Identifier: Apache-2.0
 * What the checks of the job kinds share. Private to spec.c and the spec_*.c. */
#ifndef ESP_SERVER_SPEC_H
#define ESP_SERVER_SPEC_H

#include "jobs/jobs.h"

enum { REF_MAX = 2 * ESP_NAME_MAX + 32 };

/* Members of a spec that hold a ref, with what they were resolved to; "" for none. */
typedef struct refs {
    char dataset[ESP_ID_MAX], model[ESP_ID_MAX], reference[ESP_ID_MAX], domain_dataset[ESP_ID_MAX], dynamics[ESP_ID_MAX], task[ESP_ID_MAX];
} refs;

/* The member `key` of the object, a ref that must lead somewhere; the error names the member. A model's texts are given back. */
ESP_MUST_CHECK esp_code spec_find_dataset(const esp_reader *object, const char *key, esp_db *db, esp_dataset_row *ret, esp_error *reterr);
ESP_MUST_CHECK esp_code spec_find_model(const esp_reader *object, const char *key, esp_db *db, esp_model_row *ret, esp_error *reterr);
/* The same for what graph networks are not in: UNPROCESSABLE when it is one. */
ESP_MUST_CHECK esp_code spec_find_plain(const esp_reader *object, const char *key, esp_db *db, esp_model_row *ret, esp_error *reterr);
/* A ref that leads nowhere is a fault of the field that holds it. */
esp_code spec_blame(const esp_reader *reader, esp_code code, esp_error *reterr);
/* 422 for the member. */
#define spec_unprocessable(reader, reterr, ...) (esp_refuse((reader), (reterr), __VA_ARGS__), spec_as_unprocessable(reterr))
static inline esp_code spec_as_unprocessable(esp_error *reterr) {
    if (reterr) reterr->code = ESP_UNPROCESSABLE;
    return ESP_UNPROCESSABLE;
}

/* `name`, that of a model to be made, when it is given. */
ESP_MUST_CHECK esp_code spec_check_name(const esp_reader *spec, esp_error *reterr);
/* `domain`, {"lower","upper"}, or {"dataset","margin"?}: the data box, widened by margin times its width on each side. */
ESP_MUST_CHECK esp_code spec_check_domain(const esp_reader *spec, const esp_model_row *model, esp_db *db, refs *ret, esp_error *reterr);
int spec_n_x(const esp_model_row *row);

/* `target` of a train or sparsify spec, for data of these sizes: its task, when it has one, must fit and be one whose plans are proved. */
ESP_MUST_CHECK esp_code spec_check_target(const esp_reader *spec, int64_t ny, int64_t nu, esp_db *db, refs *ret, esp_error *reterr);

/* Prune specs. */
ESP_MUST_CHECK esp_code spec_check_prune(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr);
/* Sparsify specs. */
ESP_MUST_CHECK esp_code spec_check_sparsify(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr);
/* Distill specs. */
ESP_MUST_CHECK esp_code spec_check_distill(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr);
/* Certify specs with a "kind": closed_loop, planning_loss, conformal. */
ESP_MUST_CHECK esp_code spec_check_certify_kind(const esp_reader *spec, esp_db *db, refs *ret, esp_error *reterr);

#endif
