// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20} from "@openzeppelin/contracts/token/ERC20/IERC20.sol";

import {Tree} from "./Tree.sol";

/**
 * @notice A distributor as one writes it first. Every attack in Attacks.t.sol that SettlementLedger withstands works on
 * it: the tests show that they test something. One leaf is one root here; proofs add nothing to the attacks.
 */
contract NaiveLedger {
    struct Root {
        bytes32 payoutsRoot;
        uint256 activeFrom;
        bool disputed;
    }

    IERC20 public immutable token;
    uint256 public immutable delay;
    uint256 public nextSequence = 1;
    uint256 public booked;
    mapping(uint256 sequence => Root) public roots;
    mapping(address account => uint256) public claimedBy;
    mapping(address account => uint64) public smallClaimedBy;

    constructor(IERC20 token_, uint256 delay_) {
        (token, delay) = (token_, delay_);
    }

    /// @notice The poster alone decides: no auditor, no funding, no total.
    function post(bytes32 payoutsRoot) public {
        roots[nextSequence++] = Root(payoutsRoot, block.timestamp + delay, false);
    }

    /// @notice Believes that what was sent has arrived.
    function fund(uint256 amount) external {
        token.transferFrom(msg.sender, address(this), amount);
        booked += amount;
    }

    function postFunded(bytes32 payoutsRoot, uint256 total) external {
        require(booked >= total, "not funded");
        post(payoutsRoot);
    }

    /// @notice Gives the number free, and forgets what lies above it.
    function dispute(uint256 sequence) external {
        delete roots[sequence];
        nextSequence = sequence;
    }

    /// @notice Marks every root.
    function disputeEach(uint256 sequence) external {
        for (uint256 i = sequence; i < nextSequence; ++i) {
            roots[i].disputed = true;
        }
    }

    function claim(address account, uint256 sequence, uint256 cumulative) public {
        _require(account, sequence, cumulative);
        uint256 amount = cumulative - claimedBy[account];
        require(amount > 0, "nothing to claim");
        claimedBy[account] = cumulative;
        require(token.transfer(account, amount), "refused");
    }

    /// @notice All or nothing.
    function claimMany(uint256[] calldata sequences, address[] calldata accounts, uint256[] calldata cumulatives)
        external
    {
        for (uint256 i = 0; i < accounts.length; ++i) {
            claim(accounts[i], sequences[i], cumulatives[i]);
        }
    }

    /// @notice 64 bits are enough for every dollar of 6 decimals.
    function claimSmall(address account, uint256 sequence, uint256 cumulative) external {
        _require(account, sequence, cumulative);
        uint256 amount = cumulative - smallClaimedBy[account];
        require(amount > 0, "nothing to claim");
        smallClaimedBy[account] = uint64(cumulative);
        require(token.transfer(account, amount), "refused");
    }

    /// @notice The admin's money is all that is here.
    function withdraw(address recipient, uint256 amount) external {
        token.transfer(recipient, amount);
    }

    function _require(address account, uint256 sequence, uint256 cumulative) private view {
        Root storage root = roots[sequence];
        require(root.activeFrom != 0 && block.timestamp >= root.activeFrom && !root.disputed, "not active");
        require(root.payoutsRoot == Tree.payoutLeaf(account, cumulative), "no such leaf");
    }
}
