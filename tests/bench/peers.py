#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""One solver from PyPI on one MPS file, one thread, gap 1 %, SECONDS of CPU time: peers.py highs|gurobi|scip FILE SECONDS.

Prints the lines of tests/bench/process.h: "t SECONDS UPPER LOWER" as things become known, "end STATUS SECONDS UPPER LOWER
NODES" at the end. Times are CPU seconds of this process from the start of the search, reading the file not counted.
Exit status 3: the solver is not installed or its licence does not take a model of this size.
"""
import sys
import time

WALL = 3  # a limit on wall time besides, in limits on CPU time


class Trace:
    """Says what changed, in CPU seconds since start()."""

    def __init__(self, limit):
        self.upper, self.lower, self.zero, self.limit = float("inf"), float("-inf"), 0.0, limit

    def start(self):
        self.zero = time.process_time()

    def over(self):
        return time.process_time() - self.zero >= self.limit

    def seen(self, upper, lower):
        upper = upper if abs(upper) < 1e19 else float("inf")
        lower = lower if abs(lower) < 1e19 else float("-inf")
        if upper < self.upper - 1e-9 or lower > self.lower + 1e-9:
            self.upper, self.lower = min(upper, self.upper), max(lower, self.lower)
            print(f"t {time.process_time() - self.zero:.6f} {self.upper:.9g} {self.lower:.9g}", flush=True)

    def end(self, status, nodes):
        seconds = time.process_time() - self.zero
        print(f"end {status} {seconds:.6f} {self.upper:.9g} {self.lower:.9g} {int(nodes)}", flush=True)


def highs(path, seconds, trace):
    import highspy

    solver = highspy.Highs()
    solver.setOptionValue("output_flag", False)
    solver.setOptionValue("threads", 1)
    solver.setOptionValue("mip_rel_gap", 0.01)
    solver.setOptionValue("time_limit", WALL * seconds)
    solver.readModel(path)

    def told(event):
        trace.seen(event.data_out.mip_primal_bound, event.data_out.mip_dual_bound)
        if trace.over():
            event.interrupt()

    solver.cbMipInterrupt.subscribe(told)
    trace.start()
    solver.run()
    info = solver.getInfo()
    trace.seen(info.objective_function_value if info.primal_solution_status == 2 else float("inf"), info.mip_dual_bound)
    optimal = solver.getModelStatus() == highspy.HighsModelStatus.kOptimal
    trace.end("optimal" if optimal else "limit", info.mip_node_count)


def gurobi(path, seconds, trace):
    import gurobipy

    environment = gurobipy.Env(empty=True)
    environment.setParam("OutputFlag", 0)
    environment.start()
    model = gurobipy.read(path, environment)
    model.Params.Threads = 1
    model.Params.MIPGap = 0.01
    model.Params.TimeLimit = WALL * seconds

    def told(solver, where):
        if where == gurobipy.GRB.Callback.MIP:
            trace.seen(solver.cbGet(gurobipy.GRB.Callback.MIP_OBJBST), solver.cbGet(gurobipy.GRB.Callback.MIP_OBJBND))
            if trace.over():
                solver.terminate()

    trace.start()
    model.optimize(told)
    trace.seen(model.ObjVal if model.SolCount else float("inf"), model.ObjBound)
    trace.end("optimal" if model.Status == gurobipy.GRB.OPTIMAL else "limit", model.NodeCount)


def scip(path, seconds, trace):
    import pyscipopt

    class Watch(pyscipopt.Eventhdlr):
        events = (pyscipopt.SCIP_EVENTTYPE.BESTSOLFOUND, pyscipopt.SCIP_EVENTTYPE.NODESOLVED)

        def eventinit(self):
            for event in self.events:
                self.model.catchEvent(event, self)

        def eventexit(self):
            for event in self.events:
                self.model.dropEvent(event, self)

        def eventexec(self, event):
            trace.seen(self.model.getPrimalbound(), self.model.getDualbound())

    model = pyscipopt.Model()
    model.hideOutput()
    model.readProblem(path)
    model.setParam("limits/gap", 0.01)
    model.setParam("timing/clocktype", 1)  # CPU
    model.setParam("limits/time", seconds)
    model.setParam("parallel/maxnthreads", 1)
    model.includeEventhdlr(Watch(), "watch", "tells of bounds")
    trace.start()
    model.optimize()
    trace.seen(model.getPrimalbound(), model.getDualbound())
    trace.end("optimal" if model.getStatus() in ("optimal", "gaplimit") else "limit", model.getNTotalNodes())


def main():
    name, path, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    try:
        {"highs": highs, "gurobi": gurobi, "scip": scip}[name](path, seconds, Trace(seconds))
    except Exception as error:
        print(f"error {error}", flush=True)
        if isinstance(error, ImportError) or type(error).__name__ == "GurobiError":
            sys.exit(3)
        raise


if __name__ == "__main__":
    main()
