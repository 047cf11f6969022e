"""The convergence study: plan, trainings, numbers, pictures and tables; run by ``tools/convergence_study.py``."""
