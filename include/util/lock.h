/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mutexes that clang's thread safety analysis understands; plain pthread mutexes otherwise. */
#pragma once

#include <pthread.h>

#if defined(__clang__)
#define UN_TSA(x) __attribute__((x))
#else
#define UN_TSA(x)
#endif
#define UN_REQUIRES(...) UN_TSA(requires_capability(__VA_ARGS__))
#define UN_ACQUIRES(...) UN_TSA(acquire_capability(__VA_ARGS__))
#define UN_RELEASES(...) UN_TSA(release_capability(__VA_ARGS__))
#define UN_NO_TSA UN_TSA(no_thread_safety_analysis)
/* Reads as documentation: no released compiler accepts members of the same struct in C. */
#define UN_GUARDED_BY(x)

struct UN_TSA(capability("mutex")) un_mutex {
	pthread_mutex_t m;
};

static inline void un_mutex_init(struct un_mutex *l)
{
	pthread_mutex_init(&l->m, NULL);
}

static inline void un_mutex_done(struct un_mutex *l)
{
	pthread_mutex_destroy(&l->m);
}

static inline void un_mutex_lock(struct un_mutex *l) UN_ACQUIRES(l) UN_NO_TSA
{
	pthread_mutex_lock(&l->m);
}

static inline void un_mutex_unlock(struct un_mutex *l) UN_RELEASES(l) UN_NO_TSA
{
	pthread_mutex_unlock(&l->m);
}
