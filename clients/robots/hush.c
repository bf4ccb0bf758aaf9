/* SPDX-License-Identifier: Apache-2.0
 * Chipmunk's greeting (hush.h). */
#include "robots/hush.h"

#include <chipmunk/chipmunk.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

void esp_hush_chipmunk(void) {
    fflush(stdout);
    int saved = dup(STDOUT_FILENO), nowhere = open("/dev/null", O_WRONLY);
    if (saved >= 0 && nowhere >= 0 && dup2(nowhere, STDOUT_FILENO) >= 0) {
        cpSpaceFree(cpSpaceNew());
        fflush(stdout);
        dup2(saved, STDOUT_FILENO);
    }
    if (saved >= 0) close(saved);
    if (nowhere >= 0) close(nowhere);
}
