"""What the tests of the gateway share: a listener without a model, live servers, paced clients."""
