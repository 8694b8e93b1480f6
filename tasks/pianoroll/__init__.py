"""Frame-level multitask transcription: which instrument plays which note when, from one U-net.

The published experiment of Y.-N. Hung, Y.-A. Chen and Y.-H. Yang, "Multitask learning for frame-level instrument
recognition" (ICASSP 2019), here "the multitask paper". Its authors' code is public
(github.com/biboamy/instrument-streaming); its data set is not.
"""
