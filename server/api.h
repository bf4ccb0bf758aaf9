/* SPDX-License-Identifier: Apache-2.0
 * Every handler of the route table (routes.c), by the file that holds it. */
#ifndef ESP_SERVER_API_H
#define ESP_SERVER_API_H

#include "http/http.h"

/* api_datasets.c */
esp_handler esp_api_datasets_create, esp_api_datasets_list, esp_api_datasets_get, esp_api_datasets_data;
extern const esp_upload esp_api_datasets_upload;
/* api_delete.c */
esp_handler esp_api_datasets_delete, esp_api_models_delete;

/* api_models.c */
esp_handler esp_api_models_create, esp_api_models_list, esp_api_models_get, esp_api_models_artifact;
/* api_aliases.c */
esp_handler esp_api_aliases_put, esp_api_aliases_get, esp_api_aliases_list;
/* api_lineage.c */
esp_handler esp_api_models_lineage, esp_api_tags_get, esp_api_tags_put, esp_api_tags_delete;
/* api_predict.c */
esp_handler esp_api_models_predict, esp_api_bounds_query;
bool esp_api_models_predict_at_once(struct esp_server *server, esp_call *call);
bool esp_api_bounds_query_at_once(struct esp_server *server, esp_call *call);
/* api_bounds.c */
esp_handler esp_api_bounds_list, esp_api_bounds_get;

/* api_tasks.c */
esp_handler esp_api_tasks_create, esp_api_tasks_list, esp_api_tasks_get;
/* api_plans.c */
esp_handler esp_api_plans_create, esp_api_plans_batch;

/* api_episodes.c */
esp_handler esp_api_episodes_create, esp_api_episodes_list, esp_api_episodes_get;

/* api_jobs.c */
esp_handler esp_api_jobs_create, esp_api_jobs_list, esp_api_jobs_get, esp_api_jobs_delete, esp_api_jobs_events, esp_api_jobs_batch,
    esp_api_jobs_artifacts, esp_api_jobs_log;

/* api_ops.c */
esp_handler esp_api_healthz, esp_api_readyz, esp_api_metrics, esp_api_openapi, esp_api_home;
esp_handler esp_api_v2_live, esp_api_v2_ready, esp_api_v2_model, esp_api_v2_model_ready;

#endif
