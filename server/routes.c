/* SPDX-License-Identifier: Apache-2.0
 * The route table: everything the daemon answers to. Of the patterns that match a path the one with the most literal
 * text wins, so the order here is for the reader. */
#include "api.h"
#include "pages.h"

enum { KIB = 1 << 10, MIB = 1 << 20 };

const esp_route esp_routes[] = {
    /* data */
    {"POST", "/v1/datasets", ESP_SCOPE_SUBMIT, 0, ESP_BODY_OWN_CAP, esp_api_datasets_create, &esp_api_datasets_upload, NULL},
    {"GET", "/v1/datasets", ESP_SCOPE_READ, 0, 0, esp_api_datasets_list, NULL, esp_pages_answer},
    {"GET", "/v1/datasets/{ref...}", ESP_SCOPE_READ, 0, 0, esp_api_datasets_get, NULL, NULL},
    {"DELETE", "/v1/datasets/{ref...}", ESP_SCOPE_ADMIN, 0, 0, esp_api_datasets_delete, NULL, NULL},
    {"GET", "/v1/datasets/{ref...}/data", ESP_SCOPE_READ, 0, 0, esp_api_datasets_data, NULL, NULL},

    /* jobs */
    {"POST", "/v1/jobs", ESP_SCOPE_SUBMIT, 0, 16 * MIB, esp_api_jobs_create, NULL, NULL},
    {"GET", "/v1/jobs", ESP_SCOPE_READ, 0, 0, esp_api_jobs_list, NULL, esp_pages_answer},
    {"POST", "/v1/jobs/batch", ESP_SCOPE_SUBMIT, 0, 64 * MIB, esp_api_jobs_batch, NULL, NULL},
    {"GET", "/v1/jobs/{id}", ESP_SCOPE_READ, 0, 0, esp_api_jobs_get, NULL, NULL},
    {"DELETE", "/v1/jobs/{id}", ESP_SCOPE_SUBMIT, 0, 64 * KIB, esp_api_jobs_delete, NULL, NULL},
    {"GET", "/v1/jobs/{id}/events", ESP_SCOPE_READ, 0, 0, esp_api_jobs_events, NULL, NULL},
    {"GET", "/v1/jobs/{id}/artifacts", ESP_SCOPE_READ, 0, 0, esp_api_jobs_artifacts, NULL, NULL},
    {"GET", "/v1/jobs/{id}/log", ESP_SCOPE_READ, 0, 0, esp_api_jobs_log, NULL, NULL},

    /* models and bounds */
    {"POST", "/v1/models", ESP_SCOPE_SUBMIT, 0, 64 * MIB, esp_api_models_create, NULL, NULL},
    {"GET", "/v1/models", ESP_SCOPE_READ, 0, 0, esp_api_models_list, NULL, esp_pages_answer},
    {"GET", "/v1/models/{ref...}", ESP_SCOPE_READ, 0, 0, esp_api_models_get, NULL, NULL},
    {"DELETE", "/v1/models/{ref...}", ESP_SCOPE_ADMIN, 0, 0, esp_api_models_delete, NULL, NULL},
    {"GET", "/v1/models/{ref...}/lineage", ESP_SCOPE_READ, 0, 0, esp_api_models_lineage, NULL, NULL},
    {"GET", "/v1/models/{ref...}/tags", ESP_SCOPE_READ, 0, 0, esp_api_tags_get, NULL, NULL},
    {"PUT", "/v1/models/{ref...}/tags/{tag}", ESP_SCOPE_SUBMIT, 0, 64 * KIB, esp_api_tags_put, NULL, NULL},
    {"DELETE", "/v1/models/{ref...}/tags/{tag}", ESP_SCOPE_SUBMIT, 0, 64 * KIB, esp_api_tags_delete, NULL, NULL},
    {"GET", "/v1/models/{ref...}/artifact", ESP_SCOPE_READ, 0, 0, esp_api_models_artifact, NULL, NULL},
    {"POST", "/v1/models/{ref...}/predict", ESP_SCOPE_PLAN, 0, 16 * MIB, esp_api_models_predict, NULL, esp_api_models_predict_at_once},
    {"GET", "/v1/models/{name}/aliases", ESP_SCOPE_READ, 0, 0, esp_api_aliases_list, NULL, esp_pages_answer},
    {"GET", "/v1/models/{name}/aliases/{alias}", ESP_SCOPE_READ, 0, 0, esp_api_aliases_get, NULL, NULL},
    {"PUT", "/v1/models/{name}/aliases/{alias}", ESP_SCOPE_SUBMIT, 0, 64 * KIB, esp_api_aliases_put, NULL, NULL},
    {"GET", "/v1/bounds", ESP_SCOPE_READ, 0, 0, esp_api_bounds_list, NULL, esp_pages_answer},
    {"GET", "/v1/bounds/{id}", ESP_SCOPE_READ, 0, 0, esp_api_bounds_get, NULL, NULL},
    {"POST", "/v1/bounds/query", ESP_SCOPE_PLAN, 0, 16 * MIB, esp_api_bounds_query, NULL, esp_api_bounds_query_at_once},

    /* tasks and plans */
    {"POST", "/v1/tasks", ESP_SCOPE_SUBMIT, 0, MIB, esp_api_tasks_create, NULL, NULL},
    {"GET", "/v1/tasks", ESP_SCOPE_READ, 0, 0, esp_api_tasks_list, NULL, esp_pages_answer},
    {"GET", "/v1/tasks/{ref...}", ESP_SCOPE_READ, 0, 0, esp_api_tasks_get, NULL, NULL},
    {"POST", "/v1/plans", ESP_SCOPE_PLAN, ESP_ROUTE_URGENT, MIB, esp_api_plans_create, NULL, NULL},
    {"POST", "/v1/plans/batch", ESP_SCOPE_PLAN, 0, 64 * MIB, esp_api_plans_batch, NULL, NULL},

    {"POST", "/v1/episodes", ESP_SCOPE_PLAN, 0, 64 * KIB, esp_api_episodes_create, NULL, NULL},
    {"GET", "/v1/episodes", ESP_SCOPE_READ, 0, 0, esp_api_episodes_list, NULL, esp_pages_answer},
    {"GET", "/v1/episodes/{id}", ESP_SCOPE_READ, 0, 0, esp_api_episodes_get, NULL, NULL},

    /* operations */
    {"GET", "/healthz", ESP_SCOPE_NONE, ESP_ROUTE_INLINE, 0, esp_api_healthz, NULL, NULL},
    {"GET", "/readyz", ESP_SCOPE_NONE, ESP_ROUTE_INLINE, 0, esp_api_readyz, NULL, NULL},
    {"GET", "/metrics", ESP_SCOPE_READ, ESP_ROUTE_INLINE, 0, esp_api_metrics, NULL, NULL},
    {"GET", "/openapi.json", ESP_SCOPE_NONE, ESP_ROUTE_INLINE, 0, esp_api_openapi, NULL, NULL},
    {"GET", "/v2/health/live", ESP_SCOPE_NONE, ESP_ROUTE_INLINE, 0, esp_api_v2_live, NULL, NULL},
    {"GET", "/v2/health/ready", ESP_SCOPE_NONE, ESP_ROUTE_INLINE, 0, esp_api_v2_ready, NULL, NULL},
    {"GET", "/v2/models/{name}", ESP_SCOPE_READ, 0, 0, esp_api_v2_model, NULL, NULL},
    {"GET", "/v2/models/{name}/ready", ESP_SCOPE_READ, 0, 0, esp_api_v2_model_ready, NULL, NULL},
    {"GET", "/", ESP_SCOPE_NONE, ESP_ROUTE_INLINE, 0, esp_api_home, NULL, NULL},
    {NULL, NULL, ESP_SCOPE_NONE, 0, 0, NULL, NULL, NULL},
};
