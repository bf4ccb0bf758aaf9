/* SPDX-License-Identifier: Apache-2.0
 * Clp on a neutral linear program: an oracle for the library's own simplex method. */
#ifndef ESP_TESTS_SUPPORT_CLP_H
#define ESP_TESTS_SUPPORT_CLP_H

#include "plan/lp.h"

typedef struct clp clp;
typedef enum clp_status { CLP_OPTIMAL, CLP_INFEASIBLE, CLP_OTHER } clp_status;

clp *clp_create(const esp_lp *lp);
void clp_free(clp *c);
void clp_limits(clp *c, const double *lower, const double *upper); /* of columns */
void clp_cost(clp *c, const double *cost);
void clp_coefficient(clp *c, int row, int col, double value);
clp_status clp_solve(clp *c);
double clp_value(clp *c);
/* No point of the program costs less, whatever the tolerances: weak duality with Clp's multipliers; columns must be bounded. */
double clp_bound(clp *c);
void clp_point(clp *c, double *ret_x); /* columns, of the last solve */

#endif
