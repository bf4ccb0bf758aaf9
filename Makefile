# Espalier: build, run, test. `make help` lists the targets.
#
# One non-recursive file. Each set of flags builds in its own directory, build/<variant>/, so that no variant ever needs
# a clean. Sources of lib/ and server/ are taken by folder, in pipeline order.

VARIANT ?= release
B := build/$(VARIANT)

LIB_DIRS := base data net sparsify train certify plan
SERVER_DIRS := . http registry pool jobs

# ---- flags -----------------------------------------------------------------------------------------------------------
CC ?= gcc
WARNINGS := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wno-sign-conversion -Wdouble-promotion -Wformat=2 \
	-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wcast-qual -Wpointer-arith -Wwrite-strings -Wundef \
	-Wvla -Wimplicit-fallthrough
# Vectors as wide as the building machine has; a package that must run elsewhere sets ARCH itself.
ARCH ?= $(if $(filter x86_64,$(shell uname -m)),$(if $(shell grep -m1 -w avx2 /proc/cpuinfo),-march=x86-64-v3,-march=x86-64-v2))
OPT_release := -O3 -g $(ARCH) -fno-math-errno -fno-trapping-math
OPT_asan := -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer
OPT_tsan := -O1 -g -fsanitize=thread -fno-omit-frame-pointer
HARDEN := -fstack-protector-strong -fno-common -ffp-contract=off
CPPFLAGS += -D_GNU_SOURCE -Ilib -Ischema
CFLAGS += -std=c17 $(OPT_$(VARIANT)) $(HARDEN) $(WARNINGS) -MMD -MP
LDFLAGS += $(filter -fsanitize=%,$(OPT_$(VARIANT)))

# Rounding is part of a proof in certify and of a check in verify: operations stay as they are written. Elsewhere too
# nothing is contracted, so that a program evaluates to the same bits whatever the machine has.
EXACT := -ftrapping-math

# `make V=1` shows whole commands.
Q := $(if $(V),,@)
say = $(if $(V),,@echo "  $(1) $(patsubst $(B)/%,%,$(2))")

pkg = $(shell pkg-config $(1) $(2) 2>/dev/null)
LIBS_BASE := -ljansson -lnettle -lprotobuf-c -lm
LIBS_NUMERIC := -lCbcSolver -lCbc -lOsiClp -lClpSolver -lClp -lOsi -lCgl -lCoinUtils -llapacke -lopenblas
LIBS_DAEMON := -lmicrohttpd -lsqlite3 -lpthread
LIBS_TEST = $(call pkg,--libs,check) -lcurl $(LIBS_ROBOT) -lpthread

# ---- sources ---------------------------------------------------------------------------------------------------------
LIB_SRC := $(foreach d,$(LIB_DIRS),$(sort $(wildcard lib/$(d)/*.c)))
SERVER_SRC := $(filter-out server/main.c,$(foreach d,$(SERVER_DIRS),$(sort $(wildcard server/$(d)/*.c))))
EMBED_SRC := server/embed.S
WORKER_SRC := $(sort $(wildcard server/worker/*.c))
CLIENT_SRC := $(sort $(wildcard clients/c/*.c))
# MuJoCo is for two robots only, and may be missing: then they have no world.
MUJOCO := $(wildcard /usr/include/mujoco/mujoco.h)
ROBOT_SRC := $(sort $(filter-out %/without_mujoco.c,$(wildcard clients/robots/*.c)) \
	$(filter-out %/main.c,$(foreach d,pushing rope sorting figures $(if $(MUJOCO),mujoco),$(wildcard clients/robots/$(d)/*.c))) \
	$(if $(MUJOCO),,clients/robots/without_mujoco.c))
LIBS_ROBOT := -lchipmunk $(if $(MUJOCO),-lmujoco)
CHECK_SRC := $(sort $(wildcard clients/check/*.c))
SUPPORT_SRC := $(sort $(wildcard tests/support/*.c))
PAPER_SRC := tests/paper/pieces.c tests/paper/table_file.c
BENCH_SRC := $(sort $(wildcard tests/bench/*.c))
CERTIFY_BENCH_SRC := $(sort $(wildcard tests/bench/certify/*.c))
HTTP_BENCH_SRC := $(sort $(wildcard tests/bench/http/*.c))
DEADLINE_SRC := $(sort $(wildcard tests/bench/deadline/*.c))
PRUNE_BENCH_SRC := $(sort $(wildcard tests/bench/prune/*.c))
# One binary per file; the folders stand cheap first, which is the order they run in.
TEST_SRC := $(filter-out $(if $(MUJOCO),,%/test_mujoco.c),$(foreach d,unit golden property http fault,$(sort $(wildcard tests/$(d)/*_*.c))))

# The messages of ONNX, from the description that Debian ships, under a name of ours.
ONNX_PROTO := /usr/include/onnx/onnx.proto
ONNX_SRC := $(B)/gen/onnx.pb-c.c

obj = $(patsubst %.S,$(B)/%.o,$(patsubst %.c,$(B)/%.o,$(1)))
LIB := $(B)/libespalier.a
SERVER_LIB := $(B)/libespalierd.a
DAEMON := $(B)/espalierd
WORKER := $(B)/espalier-worker
PUSHING := $(B)/espalier-pushing
ROBOTS_BIN := $(B)/espalier-robots
CHECK := $(B)/espalier-check
TESTS := $(patsubst tests/%.c,$(B)/tests/%,$(TEST_SRC))

.PHONY: all lib demo run test check t asan tsan lint format tidy deps help clean bench-plan bench-rollouts bench-loop bench-peers bench-prune bench-sparsify bench-stability bench-deadline bench-http bench-share bench-certify bench-session policy-to-c bench-train bench-threads c-size kill-soak paper
.DEFAULT_GOAL := all

all: $(DAEMON) $(WORKER) $(PUSHING) $(ROBOTS_BIN) $(CHECK) ## build the daemon, the worker, the simulated robots and the checker of certificates

lib: $(LIB)

# ---- rules -----------------------------------------------------------------------------------------------------------
$(B)/lib/certify/%.o $(B)/lib/plan/verify.o: CFLAGS += $(EXACT)
# Bounds of many targets side by side, operation by operation: as wide as the machine is.
$(addprefix $(B)/lib/certify/,bounds.o twin.o): CFLAGS += $(if $(filter release,$(VARIANT)),$(WIDE))
# Float estimates, training and simplex tableaus, which nothing is proved with: fused, sums in any order, and as wide as the machine is.
# Their vectors stay inside inlined functions, so how a machine without such registers would pass them does not matter.
WIDE := $(if $(filter %v3,$(ARCH)),$(if $(shell grep -m1 -w avx512vl /proc/cpuinfo),-march=x86-64-v4 -mprefer-vector-width=512))
$(addprefix $(B)/lib/,net/batch.o net/batch_cut.o net/split.o plan/gradient.o plan/noise.o plan/pending.o plan/rollout.o plan/sample.o plan/simplex.o plan/slope.o plan/tableau.o train/adam.o train/mlp.o train/product.o train/rollout.o sparsify/ladder.o): \
	CFLAGS += -ffp-contract=fast -fopenmp-simd -Wno-psabi $(if $(filter release,$(VARIANT)),$(WIDE))
$(B)/server/%.o $(B)/tests/%.o: CPPFLAGS += -Iserver
$(B)/clients/%.o $(B)/tests/%.o: CPPFLAGS += -Iclients
$(B)/tests/%.o: CPPFLAGS += -Itests -include tests/support/suite.h
$(B)/tests/%.o: CFLAGS += -Wno-pedantic -Wno-conversion -Wno-double-promotion -Wno-format-nonliteral

# Rounds upwards by the processor: nothing may be computed beforehand, moved or taken for its negative.
$(B)/clients/check/%.o: CFLAGS += -frounding-math $(EXACT)

$(B)/%.o: %.c Makefile
	@mkdir -p $(@D)
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(ONNX_SRC): $(ONNX_PROTO)
	@mkdir -p $(@D)
	$(call say,PROTO,$@)
	$(Q)sed 's/^package onnx;/package esp_onnx;/' $< > $(@D)/onnx.proto
	$(Q)protoc-c --proto_path=$(@D) --c_out=$(@D) $(@D)/onnx.proto

$(ONNX_SRC:.c=.o): $(ONNX_SRC) Makefile
	$(call say,CC,$@)
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c $< -o $@

$(patsubst lib/%.c,$(B)/lib/%.o,$(wildcard lib/net/onnx*.c)): CPPFLAGS += -I$(B)/gen
$(patsubst lib/%.c,$(B)/lib/%.o,$(wildcard lib/net/onnx*.c)): | $(ONNX_SRC)

$(B)/server/embed.o: server/embed.S schema/api/openapi.json $(wildcard schema/db/*.sql)
	@mkdir -p $(@D)
	$(call say,AS,$@)
	$(Q)$(CC) -c -I. $< -o $@

$(LIB): $(call obj,$(LIB_SRC)) $(ONNX_SRC:.c=.o)
$(SERVER_LIB): $(call obj,$(SERVER_SRC) $(EMBED_SRC))
$(LIB) $(SERVER_LIB):
	@mkdir -p $(@D)
	@rm -f $@
	$(call say,AR,$@)
	$(Q)ar rcs $@ $^

# The daemon links neither BLAS nor Coin: a call to either fails here.
$(DAEMON): $(B)/server/main.o $(SERVER_LIB) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_DAEMON) $(LIBS_BASE)

$(WORKER): $(call obj,$(WORKER_SRC)) $(B)/server/pool/frame.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_NUMERIC) $(LIBS_BASE)

# A robot knows the HTTP interface and nothing else: no library of ours but the client.
$(PUSHING): $(B)/clients/robots/pushing/main.o
$(ROBOTS_BIN): $(B)/clients/robots/figures/main.o
$(PUSHING) $(ROBOTS_BIN): $(call obj,$(ROBOT_SRC) $(CLIENT_SRC))
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_ROBOT) -lcurl -ljansson -lpthread -lm

# Proves certificates again and shares no code with what made them: no library of ours.
$(CHECK): $(call obj,$(CHECK_SRC))
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ -ljansson -lnettle -lm

$(B)/tests/%: $(B)/tests/%.o $(call obj,$(SUPPORT_SRC) $(CLIENT_SRC) $(ROBOT_SRC) $(PAPER_SRC)) $(SERVER_LIB) $(LIB)
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_TEST) $(LIBS_DAEMON) $(LIBS_NUMERIC) $(LIBS_BASE)

# The benchmark of the planner: all of tests/bench in one binary.
$(B)/tests/bench/bench_plan: $(call obj,$(BENCH_SRC) $(SUPPORT_SRC) $(CLIENT_SRC)) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_TEST) $(LIBS_NUMERIC) $(LIBS_BASE)

# The benchmark of pruning: the library and random networks.
$(B)/tests/bench/bench_prune: $(call obj,$(PRUNE_BENCH_SRC) tests/support/models.c) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_NUMERIC) $(LIBS_BASE)

# The benchmark of certified differences: the library alone.
$(B)/tests/bench/bench_certify: $(call obj,$(CERTIFY_BENCH_SRC)) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_NUMERIC) $(LIBS_BASE)

# The benchmark of the deadlines, a client of a real daemon.
$(B)/tests/bench/bench_deadline: $(call obj,$(DEADLINE_SRC) $(SUPPORT_SRC) $(CLIENT_SRC) clients/robots/stats.c) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_TEST) $(LIBS_NUMERIC) $(LIBS_BASE)

# The benchmark of lists and of requests a second, a client of a real daemon on a large registry.
$(B)/tests/bench/bench_http: $(call obj,$(HTTP_BENCH_SRC) $(SUPPORT_SRC) $(CLIENT_SRC)) $(SERVER_LIB) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_TEST) $(LIBS_DAEMON) $(LIBS_NUMERIC) $(LIBS_BASE)

# The benchmark of sessions, on CPU time for a clock.
SESSION_BENCH_SRC := $(sort $(wildcard tests/bench/session/*.c))
$(B)/tests/bench/session/bench_session: $(call obj,$(SESSION_BENCH_SRC) $(filter-out %/bench_plan.c,$(BENCH_SRC)) $(SUPPORT_SRC) $(CLIENT_SRC)) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) -Wl,--wrap=esp_clock_now_ns $^ -o $@ $(LIBS_TEST) $(LIBS_NUMERIC) $(LIBS_BASE)

# More, each one file beside the shared ones: rollouts/bench_rollouts, loop/bench_loop, share/bench_share, sparsify/bench_sparsify and bench_stability, ladder/draw.
BENCH_MORE := $(wildcard tests/bench/rollouts/*.c tests/bench/loop/*.c tests/bench/share/*.c tests/bench/sparsify/bench_*.c tests/bench/ladder/*.c tests/bench/train/*.c)
$(patsubst %.c,$(B)/%,$(BENCH_MORE)): %: %.o $(call obj,$(filter-out %/bench_plan.c,$(BENCH_SRC)) $(SUPPORT_SRC) $(CLIENT_SRC) $(ROBOT_SRC) server/worker/helpers.c tests/bench/sparsify/pushing.c) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_TEST) $(LIBS_NUMERIC) $(LIBS_BASE)

# The paper's figures: piecewise-affine recovery over the library, and what draws all of them from their tables.
$(B)/tests/paper/piecewise: $(call obj,$(addprefix tests/paper/,piecewise.c pieces.c pieces_draw.c) clients/robots/svg.c) $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ $(LIBS_NUMERIC) $(LIBS_BASE)
$(B)/tests/paper/draw: $(call obj,$(addprefix tests/paper/,draw.c table_file.c) clients/robots/svg.c clients/robots/stats.c)
	$(call say,LD,$@)
	$(Q)$(CC) $(LDFLAGS) $^ -o $@ -lm

.PRECIOUS: $(B)/%.o
-include $(patsubst %.o,%.d,$(call obj,$(LIB_SRC) $(SERVER_SRC) server/main.c $(WORKER_SRC) $(CLIENT_SRC) $(ROBOT_SRC) $(wildcard clients/robots/*/main.c) $(CHECK_SRC) $(SUPPORT_SRC) $(BENCH_SRC) $(BENCH_MORE) $(CERTIFY_BENCH_SRC) $(DEADLINE_SRC) $(HTTP_BENCH_SRC) $(SESSION_BENCH_SRC) $(wildcard tests/paper/*.c) tests/bench/sparsify/pushing.c $(TEST_SRC)))

# ---- what people type ------------------------------------------------------------------------------------------------
JOBS ?= $(shell nproc)

deps: ## install the Debian packages that are missing (root or sudo)
	@deploy/install-dependencies

demo: deps ## from a fresh machine: build, daemon, data, training, certificates, closed loop, pictures (DEMO=quick: a short one)
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@clients/robots/demo $(B) $(DEMO)

run: all ## the daemon on 127.0.0.1:8787 with its data in ./var
	$(DAEMON) --listen 127.0.0.1:8787 --data var

test: deps ## from a fresh machine: build, lint and every cheap tier
	@$(MAKE) --no-print-directory -j$(JOBS) check

check: all $(TESTS) ## lint and every cheap tier, packages already installed
	@tests/run $(B) $(TESTS)

t: all ## one test file, or those of its tests whose name contains C: make t F=test_error [C=errno]
	@$(MAKE) --no-print-directory $(filter %/$(F),$(TESTS))
	@CK_VERBOSITY=verbose $(if $(C),ESP_CASE=$(C)) ESPALIER_BUILD=$(B) OPENBLAS_NUM_THREADS=1 $(filter %/$(F),$(TESTS))

asan: ## the tests under AddressSanitizer and UBSan
	@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=asan check

tsan: ## the tests under ThreadSanitizer
	@$(MAKE) --no-print-directory -j$(JOBS) VARIANT=tsan check

BENCH_VENV := build/bench-venv
BENCH_PYTHON = $(wildcard $(BENCH_VENV)/bin/python)
bench-plan: $(B)/tests/bench/bench_plan ## the planner against stock solvers: [PLAN_SECONDS=20] [PLAN_SIZES="15x3 15x5"] [PLAN_SEEDS=6] [PLAN_ENGINES="tree ..."]
	@OPENBLAS_NUM_THREADS=1 $< $(if $(PLAN_SECONDS),--seconds $(PLAN_SECONDS)) $(if $(PLAN_SIZES),--sizes "$(PLAN_SIZES)") \
		$(if $(PLAN_SEEDS),--seeds $(PLAN_SEEDS)) $(if $(PLAN_ENGINES),--engines "$(PLAN_ENGINES)") $(if $(BENCH_PYTHON),--python $(BENCH_PYTHON))

bench-certify: $(B)/tests/bench/bench_certify ## how tight certified differences are: [CERTIFY_SECONDS=1] [CERTIFY_NETS="2-16-16-1 ..."] [CERTIFY_SEEDS=1] [CERTIFY_EXACT=10]
	@OPENBLAS_NUM_THREADS=1 $< $(if $(CERTIFY_SECONDS),--seconds $(CERTIFY_SECONDS)) $(if $(CERTIFY_NETS),--nets "$(CERTIFY_NETS)") \
		$(if $(CERTIFY_SEEDS),--seeds $(CERTIFY_SEEDS)) $(if $(CERTIFY_EXACT),--exact $(CERTIFY_EXACT))

bench-deadline: all $(B)/tests/bench/bench_deadline ## how late plans are beside a training job, two minutes: [DEADLINE_PLANS=300] [DEADLINE_JOB=no] [DEADLINE_ROBOTS=plain]
	@ESPALIER_BUILD=$(B) OPENBLAS_NUM_THREADS=1 $(B)/tests/bench/bench_deadline $(if $(DEADLINE_PLANS),--plans $(DEADLINE_PLANS)) $(if $(DEADLINE_JOB),--job $(DEADLINE_JOB)) \
		$(if $(DEADLINE_ROBOTS),--robots $(DEADLINE_ROBOTS))

bench-share: all $(B)/tests/bench/share/bench_share ## one plan on one worker and on two, a few minutes: [SHARE_SIZE=15x5] [SHARE_SEEDS=6] [SHARE_SECONDS=60]
	@ESPALIER_BUILD=$(B) OPENBLAS_NUM_THREADS=1 $(B)/tests/bench/share/bench_share $(if $(SHARE_SIZE),--size $(SHARE_SIZE)) $(if $(SHARE_SEEDS),--seeds $(SHARE_SEEDS)) \
		$(if $(SHARE_SECONDS),--seconds $(SHARE_SECONDS))

bench-http: all $(B)/tests/bench/bench_http ## requests a second, and every list on a large registry: [HTTP_SECONDS=3] [HTTP_CONNECTIONS=32] [HTTP_MODELS=100000] [HTTP_CERTIFICATES=1000000] [HTTP_ALONE=yes] [HTTP_ONLY=asks]
	@ESPALIER_BUILD=$(B) $(B)/tests/bench/bench_http $(if $(HTTP_SECONDS),--seconds $(HTTP_SECONDS)) $(if $(HTTP_CONNECTIONS),--connections $(HTTP_CONNECTIONS)) \
		$(if $(HTTP_MODELS),--models $(HTTP_MODELS)) $(if $(HTTP_CERTIFICATES),--certificates $(HTTP_CERTIFICATES)) $(if $(HTTP_ONLY),--only $(HTTP_ONLY)) $(if $(HTTP_ALONE),--alone yes)

kill-soak: all $(B)/tests/fault/test_kill ## SIGKILL to the daemon at random moments of a mixed load, a second each: [KILLS=200] [ESP_SEED=1]
	@ESP_KILLS=$(or $(KILLS),200) ESP_CASE=any_moment ESPALIER_BUILD=$(B) OPENBLAS_NUM_THREADS=1 $(B)/tests/fault/test_kill

bench-prune: $(B)/tests/bench/bench_prune ## pruning: time on a large layer, error against sparsity for each method; some minutes: [PRUNE_FAST=yes]
	@OPENBLAS_NUM_THREADS=1 $< $(if $(PRUNE_FAST),--fast)

bench-sparsify: $(B)/tests/bench/sparsify/bench_sparsify ## the Gumbel ladder against L1 channel pruning on the pushing data, some minutes: [SPARSIFY="--rung-epochs 20 --seed 2 ..."]
	@OPENBLAS_NUM_THREADS=1 $< $(SPARSIFY)

bench-stability: $(B)/tests/bench/sparsify/bench_stability ## error against the time of a proof, with and without training for the planner; many minutes: [STABILITY="--seeds 1 --proofs 2 --seconds 2 ..."]
	@OPENBLAS_NUM_THREADS=1 $< $(STABILITY)

bench-rollouts: $(B)/tests/bench/rollouts/bench_rollouts ## sampled plans a second against PyTorch, after bench-peers: [ROLLOUT_NETWORKS="dense push24-1"] [ROLLOUT_HORIZONS="5 10 20"] [ROLLOUT_SAMPLES="150 1000 4000"]
	@OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(BENCH_PYTHON) tests/bench/rollouts/rollouts.py $< $(if $(ROLLOUT_NETWORKS),--networks "$(ROLLOUT_NETWORKS)") \
		$(if $(ROLLOUT_HORIZONS),--horizons "$(ROLLOUT_HORIZONS)") $(if $(ROLLOUT_SAMPLES),--samples "$(ROLLOUT_SAMPLES)")

bench-threads: $(B)/tests/bench/train/bench_train ## training on one thread, on two, and two jobs at once; a minute
	@data=$$(mktemp) && $< data $$data 20000 && \
		echo "| network | Gumbel | best, one thread | two, x | two jobs, x | median, one thread | two, x | two jobs, x | quick minibatch, us | two, x |" && echo "|:--|:--|--:|--:|--:|--:|--:|--:|--:|--:|" && \
		for n in 64-64 96-192-192-96; do OPENBLAS_NUM_THREADS=1 $< threads $$data $$n; done; rm -f "$$data"

# OpenBLAS of Debian does not know the newest processors; told what they are like, it is the peak that it should be.
bench-train: $(B)/tests/bench/train/bench_train ## training against PyTorch, after bench-peers; minutes: [TRAIN_NETWORKS="64-64 96-192-192-96"] [TRAIN_EPOCHS=8]
	@OPENBLAS_NUM_THREADS=1 $(if $(findstring v4,$(WIDE)),OPENBLAS_CORETYPE=SKYLAKEX) $(BENCH_PYTHON) tests/bench/train/train.py $< \
		$(if $(TRAIN_NETWORKS),--networks "$(TRAIN_NETWORKS)") $(if $(TRAIN_EPOCHS),--epochs $(TRAIN_EPOCHS))
policy-to-c: all $(B)/tests/bench/ladder/draw ## a policy distilled, pruned, certified, as C, and the picture of what pruning costs; a minute: [LADDER_OUT=build/ladder]
	@tests/bench/ladder/run $(B) $(LADDER_OUT)

paper: ## the sparse-dynamics paper's tasks as tables and pictures; tens of minutes: [PAPER=quick] [PAPER_OUT=build/paper] [ROBOTS="pushing rope ..."] [SEEDS="1 2"]
	@deploy/install-dependencies dependencies dependencies-paper
	@$(MAKE) --no-print-directory -j$(JOBS) all $(B)/tests/paper/piecewise $(B)/tests/paper/draw
	@ROBOTS="$(ROBOTS)" SEEDS="$(SEEDS)" tests/paper/run $(B) $(or $(PAPER_OUT),build/paper) $(PAPER)

c-size: all ## C artifacts: self-tests, and flash, RAM and stack on a Cortex-M4 (Debian: gcc-arm-none-eabi, qemu-user)
	@tests/bench/c_size/run $(B) tests/bench/models/push15-1.espm tests/bench/models/push24-1.espm

bench-loop: $(B)/tests/bench/loop/bench_loop ## plans of 100 ms in a closed loop against the optimum, minutes: [LOOP="--episodes 4 --steps 12 --world physics ..."]
	@OPENBLAS_NUM_THREADS=1 $< $(LOOP)

bench-session: $(B)/tests/bench/session/bench_session ## what the last solve of a closed loop is worth to the next, minutes: [SESSION="--sizes 15x3 --episodes 2 --steps 4 --noise 0 ..."]
	@OPENBLAS_NUM_THREADS=1 $< $(SESSION)

bench-peers: ## HiGHS, Gurobi (its size-limited licence) and SCIP from PyPI for bench-plan, PyTorch for bench-rollouts and bench-train, in build/bench-venv
	@python3 -m venv $(BENCH_VENV)
	@for peer in highspy gurobipy pyscipopt torch pytorch_mppi; do $(BENCH_VENV)/bin/pip install -q $$peer || echo "$$peer does not install here"; done

lint: ## layering, sizes, headers, format, scripts
	@tests/lint/run

format: ## rewrite the sources in the house format
	@git ls-files '*.c' '*.h' | xargs clang-format -i

tidy: ## clang-tidy over lib and server
	@git ls-files 'lib/*.c' 'server/*.c' | xargs -P$(JOBS) -n4 clang-tidy --quiet -- $(CPPFLAGS) -Iserver -std=c17

clean: ## remove build/
	rm -rf build

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12
