/* SPDX-License-Identifier: Apache-2.0
 * Certify jobs that name a kind, and how they write a certificate. schema/formats/certificate.md says what a record holds. */
#ifndef ESP_WORKER_CERTIFY_KINDS_H
#define ESP_WORKER_CERTIFY_KINDS_H

#include "certify/certificate.h"
#include "worker/worker.h"

worker_task worker_job_closed_loop, worker_job_planning_loss, worker_job_conformal;
/* Which of them the spec's kind names. */
worker_task worker_job_certify_kind;

/* A row and the head of its record; the caller adds members and ends it. `box` NULL: none. */
void worker_row_begin(esp_jsonw *json, const esp_certificate *certificate, const esp_box *box);
void worker_row_end(esp_jsonw *json, double time_limit_s);
/* The sha256 of the model that the payload names under `key`, as the record's member. */
ESP_MUST_CHECK esp_code worker_row_sha256(esp_jsonw *json, const char *member, const esp_reader *payload, const char *key, esp_error *reterr);
/* {"lower":[..],"upper":[..]} */
void worker_row_box(esp_jsonw *json, const char *key, const esp_box *box);

/* A bound with the room that the record promises to a checker: one part in 10^9 more; 0 and infinity stay. */
double worker_raised(double bound);

#endif
