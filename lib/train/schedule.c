/* SPDX-License-Identifier: Apache-2.0
 * Cosine, plateau and early stop. */
#include "train/schedule.h"

#include <math.h>

#define FINAL_RATE    0.01 /* of the cosine */
#define SMALLEST_RATE 1e-4 /* of the plateau */

void esp_schedule_begin(esp_schedule *schedule) {
    *schedule = (esp_schedule){.best = (double)INFINITY, .share = 1};
}

bool esp_schedule_epoch(esp_schedule *schedule, const esp_train_opts *opts, double loss) {
    bool better = isfinite(loss) && !(loss >= schedule->best * (1 - opts->plateau_threshold));
    schedule->waited = better ? 0 : schedule->waited + 1;
    schedule->patience = better ? 0 : schedule->patience + 1;
    if (better) schedule->best = loss;
    if (schedule->patience > opts->plateau_patience) {
        schedule->share = fmax(SMALLEST_RATE, schedule->share * opts->plateau_factor);
        schedule->patience = 0;
    }
    return better;
}

double esp_schedule_rate(const esp_schedule *schedule, const esp_train_opts *opts, double done) {
    if (opts->schedule == ESP_SCHEDULE_PLATEAU) return schedule->share;
    return FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + cos(M_PI * done));
}

bool esp_schedule_over(const esp_schedule *schedule, const esp_train_opts *opts) {
    return opts->early_stop > 0 && schedule->waited >= opts->early_stop;
}
