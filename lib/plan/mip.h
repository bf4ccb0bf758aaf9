/* SPDX-License-Identifier: Apache-2.0
 * Planning by mixed-integer programming: root, then a search engine. Here the engine is CBC; another one takes the same
 * root and the same result.
 *
 * Bounds: those of the root are proved (plan/root.h). CBC's are taken less 1e-6 * max(1, |bound|), its tolerances, and
 * never above the cutoff it was given: strength `solver`. Squares are replaced by tangents below them, so a bound of
 * the model is a bound of the problem; where the model's plan and the true cost disagree, tangents are added there and
 * the search repeated. Plans are replayed before they count. CBC starts from the best plan known (its phases, faces and
 * values as a MIP start, its cost as the cutoff); ranges are tightened under that cost, so that it lies inside the model.
 *
 * `infeasible` is said only without a plan, without a cutoff, and with a proof: a Farkas ray of the relaxation that
 * checks, or two searches by CBC with different settings, both finished well within their time. */
#ifndef ESP_PLAN_MIP_H
#define ESP_PLAN_MIP_H

#include "plan/root.h"

typedef struct esp_mip_result {
    bool infeasible; /* proved */
    int binaries; /* unstable ReLUs that were left to the search */
} esp_mip_result;

/* "mip/tree" or "mip/cbc": the engine that a problem gets. */
const char *esp_mip_method(const esp_problem *problem);

/* Improves the track's plan and bound until the gap is met or it is time to stop. Does nothing beyond some 2,800 unstable
 * ReLUs. NOMEM, STATE (another search runs). */
ESP_MUST_CHECK esp_code esp_mip_run(esp_track *track, const esp_tightened *tightened, esp_mip_result *ret_result, esp_error *reterr);

#endif
