/*
 * study_internal.h -- between the files that judge a comparison.
 */
#ifndef MOESIM_STUDY_INTERNAL_H
#define MOESIM_STUDY_INTERNAL_H

#include "study.h"

/* Writes the verdict of a group whose runs have their gains and places. */
void study_say(struct study *study, struct study_group *group);

#endif
