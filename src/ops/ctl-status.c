/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `status`: reads counters, and takes no lock that a request waits for. */
#include "ctl_i.h"

#include "transport/wire.h"
#include "util/log.h"
#include "util/report.h"
#include "watch/watch.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Resident, in bytes; 0: not known. */
static uint64_t memory(void)
{
	g_autofree char *text = NULL;
	uint64_t all, resident;

	if (!g_file_get_contents("/proc/self/statm", &text, NULL, NULL) ||
	    sscanf(text, "%" SCNu64 " %" SCNu64, &all, &resident) != 2)
		return 0;
	return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void report_daemon(struct un_ops *ops, struct un_report *r)
{
	const gint64 up = g_get_monotonic_time() - ops->started;
	const uint64_t bytes = memory();

	un_report_begin(r, "daemon");
	un_report_text(r, "version", UN_VERSION);
	un_report_number(r, "pid", (uint64_t)getpid());
	un_report_number(r, "uptime_seconds", (uint64_t)(up / G_USEC_PER_SEC));
	if (bytes)
		un_report_number(r, "memory_bytes", bytes);
	un_report_text(r, "transport", un_transport_kind(ops->transport));
	un_report_text(r, "passthrough", ops->passing ? "on" : "off");
	un_report_text(r, "log", un_log_level_word(un_log_level()));
	un_report_end(r);
}

static void report_layers(struct un_ops *ops, struct un_report *r)
{
	struct un_layer_status l;

	un_report_begin_list(r, "layers");
	for (unsigned i = 0; un_fs_layer(ops->fs, i, &l); i++) {
		un_report_begin_item(r, l.kind, "path", l.path);
		un_report_words(r, "has", l.has, l.n_has);
		un_report_words(r, "lacks", l.lacks, l.n_lacks);
		un_report_text(r, "numbers", l.numbers);
		un_report_end(r);
	}
	un_report_end(r);
}

/* Each "NAME=VALUE". */
static void report_options(struct un_ops *ops, struct un_report *r)
{
	un_report_begin(r, "options");
	for (const char *const *o = ops->config.options; o && *o; o++) {
		const char *value = strchr(*o, '=');
		g_autofree char *name = value ? g_strndup(*o, (size_t)(value - *o)) : g_strdup(*o);

		un_report_text(r, name, value ? value + 1 : "");
	}
	un_report_end(r);
}

static void report_state(struct un_ops *ops, struct un_report *r)
{
	struct un_fs_stats stats;

	un_fs_stats(ops->fs, &stats);
	un_report_begin(r, "state");
	un_report_number(r, "inodes", stats.inodes);
	un_report_number(r, "descriptors", stats.descriptors);
	un_report_number(r, "copyups", stats.copyups);
	un_report_number(r, "copied_bytes", stats.copied_bytes);
	un_report_end(r);
}

static void report_requests(struct un_ops *ops, struct un_report *r)
{
	uint64_t counts[UN_TRANSPORT_OPCODES], sum = 0;

	un_transport_counts(ops->transport, counts);
	un_report_begin(r, "requests");
	for (unsigned op = 0; op < UN_TRANSPORT_OPCODES; op++) {
		const char *known = un_wire_opcode_name(op);
		char name[32];

		if (!counts[op])
			continue;
		sum += counts[op];
		if (known)
			g_strlcpy(name, known, sizeof(name));
		else
			snprintf(name, sizeof(name), "OPCODE_%u", op);
		un_report_number(r, name, counts[op]);
	}
	un_report_number(r, "total", sum);
	un_report_end(r);
}

/* In the order in which they are shown; a section of another room is one more line. */
/* How changes that others make in layers are seen; nothing is said where they are not. */
static void report_watches(struct un_ops *ops, struct un_report *r)
{
	struct un_watch_stats s;

	if (!un_fs_watch_stats(ops->fs, &s))
		return;
	un_report_begin(r, "watches");
	un_report_number(r, "fanotify", s.by_fanotify);
	un_report_number(r, "inotify", s.by_inotify);
	un_report_number(r, "at_most", s.budget);
	un_report_number(r, "timed", un_fs_timed(ops->fs));
	un_report_number(r, "given_up", un_fs_given_up(ops->fs));
	un_report_number(r, "changes", s.events);
	un_report_number(r, "own_changes", s.own);
	un_report_number(r, "overflows", s.lost);
	un_report_end(r);
}

static void report_all(struct un_ops *ops, struct un_report *r)
{
	report_daemon(ops, r);
	report_layers(ops, r);
	report_options(ops, r);
	report_state(ops, r);
	report_watches(ops, r);
	report_requests(ops, r);
}

void un_ctl_status(struct un_ctl_call *call)
{
	const bool json = call->n > 1;
	struct un_report *r;

	if (json && strcmp(call->words[1], "--json") != 0) {
		un_ctl_reply(call, UN_CTL_MISUSED,
			     g_strdup_printf("status: unknown option '%s': it takes --json",
					     call->words[1]));
		return;
	}
	r = un_report_new(json);
	report_all(call->ops, r);
	un_ctl_reply(call, UN_CTL_DONE, un_report_finish(r));
}
