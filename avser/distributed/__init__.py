"""Many clips and many trainings: parts of a job, and engines that run them."""
