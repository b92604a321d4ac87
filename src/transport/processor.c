/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "processor_i.h"

#include "util/err.h"

#include <fcntl.h>
#include <glib.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <unistd.h>

/* ---- where a thread is ------------------------------------------------------------------------------ */

/* More than any kernel has. */
#define MAX_CPUS 16384

/* Those that this process was started with; others are not for us. */
static cpu_set_t *allowed;
#define SET_SIZE CPU_ALLOC_SIZE(MAX_CPUS)

static bool note_allowed(void)
{
	if (!allowed)
		allowed = CPU_ALLOC(MAX_CPUS);
	if (!allowed)
		return false;
	CPU_ZERO_S(SET_SIZE, allowed);
	return sched_getaffinity(0, SET_SIZE, allowed) == 0;
}

unsigned un_place_count(void)
{
	g_autofree char *text = NULL;
	g_auto(GStrv) ranges = NULL;
	unsigned n = 0;

	if (!note_allowed() ||
	    !g_file_get_contents("/sys/devices/system/cpu/possible", &text, NULL, NULL))
		return 0;
	ranges = g_strsplit(g_strstrip(text), ",", -1);
	for (char **r = ranges; *r; r++) {
		unsigned first, last;

		switch (sscanf(*r, "%u-%u", &first, &last)) {
		case 1:
			n++;
			break;
		case 2:
			n += last >= first ? last - first + 1 : 0;
			break;
		default:
			return 0;
		}
	}
	return n <= MAX_CPUS ? n : 0;
}

bool un_place_on(unsigned cpu)
{
	cpu_set_t *set;
	bool ok;

	if (!CPU_ISSET_S(cpu, SET_SIZE, allowed))
		return false;
	set = CPU_ALLOC(MAX_CPUS);
	if (!set)
		return false;
	CPU_ZERO_S(SET_SIZE, set);
	CPU_SET_S(cpu, SET_SIZE, set);
	ok = sched_setaffinity(0, SET_SIZE, set) == 0;
	CPU_FREE(set);
	return ok;
}

void un_place_anywhere(void)
{
	un_ignore(sched_setaffinity(0, SET_SIZE, allowed));
}

#define LARGE (64 * 1024u)
/* Requests until a thread is bound again: after a large one; after it could not be. */
#define AFTER_LARGE 8u
#define AFTER_FAILURE 4096u

void un_place_for(struct un_place *p, unsigned cpu, size_t data)
{
	if (data >= LARGE) {
		p->wait = AFTER_LARGE;
		if (p->bound)
			un_place_anywhere();
		p->bound = false;
	} else if (!p->bound && p->wait > 0) {
		p->wait--;
	} else if (!p->bound) {
		p->bound = un_place_on(cpu);
		p->wait = AFTER_FAILURE;
	}
}

/* ---- where its callers are -------------------------------------------------------------------------- */

/* So often it is looked how many want to run. */
#define LOOK_US (10 * 1000)
/* A moment that was longer was somebody else's, and no more than such a part of the time is to be spent so. */
#define LONG_US 1000
#define PART 64

static atomic_bool may_yield;

static int set_policy(int policy)
{
	const struct sched_param p = { .sched_priority = 0 };

	return sched_setscheduler(0, policy, &p);
}

static void *try_to_yield(void *arg)
{
	(void)arg;
	atomic_store(&may_yield, sched_getscheduler(0) == SCHED_OTHER &&
					 set_policy(SCHED_IDLE) == 0 &&
					 set_policy(SCHED_OTHER) == 0);
	return NULL;
}

bool un_yield_find_out(void)
{
	pthread_t thread;

	atomic_store(&may_yield, false);
	if (pthread_create(&thread, NULL, try_to_yield, NULL) == 0)
		pthread_join(thread, NULL);
	return atomic_load(&may_yield);
}

/* Threads that could run now, on all processors, as the kernel says. The caller is one. */
static unsigned runnable(void)
{
	const int fd = open("/proc/loadavg", O_RDONLY | O_CLOEXEC);
	char text[128];
	ssize_t size;
	unsigned n;

	if (fd < 0)
		return UINT_MAX;
	size = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[MAX(size, 0)] = 0;
	return sscanf(text, "%*s %*s %*s %u", &n) == 1 ? n : UINT_MAX;
}

int64_t un_yield_begin(struct un_yield *y)
{
	int64_t now;

	if (!atomic_load_explicit(&may_yield, memory_order_relaxed))
		return 0;
	now = g_get_monotonic_time();
	if (now >= atomic_load_explicit(&y->look, memory_order_relaxed)) {
		const long n = sysconf(_SC_NPROCESSORS_ONLN);

		/* The caller may count although it sleeps (a delayed dequeue). */
		atomic_store_explicit(&y->on, n > 1 && runnable() <= (unsigned long)n,
				      memory_order_relaxed);
		atomic_store_explicit(&y->look, now + LOOK_US, memory_order_relaxed);
	}
	if (!atomic_load_explicit(&y->on, memory_order_relaxed))
		return 0;
	return set_policy(SCHED_IDLE) == 0 ? now : 0;
}

void un_yield_end(struct un_yield *y, int64_t since)
{
	int64_t now, took;

	if (set_policy(SCHED_OTHER) < 0)
		atomic_store(&may_yield, false);
	now = g_get_monotonic_time();
	took = now - since;
	/* Where nobody else wants to run it was the caller, who has had much to do. */
	if (took < LONG_US || runnable() == 1)
		return;
	atomic_store_explicit(&y->on, false, memory_order_relaxed);
	atomic_store_explicit(&y->look, now + PART * took, memory_order_relaxed);
}
