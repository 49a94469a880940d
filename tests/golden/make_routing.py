#!/usr/bin/env python3
"""golden/gpt_oss_routing.npy: which experts GPT-OSS-20B chose, two layers of 1,536 tokens.

Usage: make_routing.py EXPERTS.npy     (uint8 [tokens][24][4], the expert ids of the trace)

Source: AmanPriyanshu/GPT-OSS-MoE-ExpertFingerprinting @ 72b368f (Apache-2.0), tokens 40,000 to
41,535, layers 5 and 17; as uint8 [2][1536][4], the order that moe-bench --routing reads. The busiest
expert has 4.6 times (layer 5) and 4.7 times (layer 17) the mean load.
"""
import os
import sys

import numpy

recorded = numpy.load(sys.argv[1], mmap_mode="r")
chosen = recorded[40000:41536, [5, 17], :].transpose(1, 0, 2)
numpy.save(os.path.join(os.path.dirname(os.path.abspath(__file__)), "gpt_oss_routing.npy"),
           numpy.ascontiguousarray(chosen))
