/* SPDX-License-Identifier: Apache-2.0
 * What robots ask the service for beside plans: datasets and jobs, and the parts that requests are made of. */
#ifndef ESP_ROBOTS_SERVICE_H
#define ESP_ROBOTS_SERVICE_H

#include <stdbool.h>
#include <stddef.h>

#include "c/espalier.h"
#include "robots/robot.h"

/* ESP_CLIENT_FORMAT with a text, or whatever code is given; returns false. */
bool esp_service_fail(esp_client_code code, const char *text, esp_client_error *reterr);

/* POSTs a file of NDJSON as a dataset of that name; its id, and its sha256 unless NULL (65 characters). */
bool esp_service_upload(esp_client *client, const char *name, const char *file, char *ret_id, size_t cap, char *ret_sha256, esp_client_error *reterr);
/* A new job; takes the reference to `spec`. */
bool esp_service_submit(esp_client *client, const char *kind, json_t *spec, char *ret_id, size_t cap, esp_client_error *reterr);
/* A new task; takes the reference to `task`. */
bool esp_service_task(esp_client *client, json_t *task, char *ret_id, size_t cap, esp_client_error *reterr);

/* The known part of a robot's dynamics, as the spec of a train job has it; of like objects, that they stay. */
json_t *esp_service_frame(const esp_robot *robot);
/* `model` of that spec for a robot of like objects: positions in the plane, seen from each other and from where u begins. All seven hidden
 * layers have one width. */
json_t *esp_service_graph(const esp_robot *robot, int width);
/* Arrays. */
json_t *esp_service_numbers(const double *values, int n);
json_t *esp_service_integers(const int *values, int n);
/* A member that is a number, else NaN. */
double esp_service_number(const json_t *object, const char *key);
/* n numbers of an array; false when it is none of that length. */
bool esp_service_read(const json_t *array, double *ret_values, size_t n);

#endif
